"""Calls, retries and errors."""

from __future__ import annotations

import os
import pickle
import threading
import time
import unittest
from typing import Any, Dict

from curate_client import Client, CurateError, CurateUnavailable, RowStream
from tests.support import ServerCase, spec


class Calls(ServerCase):
    def test_a_session_is_created_once_and_attached_to(self) -> None:
        first, again = self.session(), self.session()
        self.assertEqual((first.id, again.info["batch"]), ("run", 4))
        self.assertEqual(len(self.server.sessions), 1)
        with self.assertRaises(CurateError) as other:
            self.session(batch=9)
        self.assertEqual((other.exception.status, other.exception.code), (409, "session/other-spec"))

    def test_without_an_id_the_client_draws_one_so_that_a_lost_answer_makes_no_second_session(self) -> None:
        self.server.faults = ["drop-after"]
        session = self.client.create_session(spec())
        self.assertEqual(list(self.server.sessions), [session.id])

    def test_propose_and_feedback(self) -> None:
        session = self.session()
        batch = session.propose(1)
        self.assertEqual((batch.step, len(batch), batch.end), (1, 4, False))
        self.assertEqual(batch.rows[0].data["text"], f"row {batch.ids[0]}")
        answer = session.feedback(1, batch.ids, {"loss": [1.0, 2.0, 3.0, 4.0]})
        self.assertEqual(answer["observed"], 1)

    def test_every_fault_is_met_by_the_same_call_again(self) -> None:
        session = self.session()
        for fault in ("drop-before", "drop-after", 429, 503, 425, 502):
            with self.subTest(fault=fault):
                step = len(self.server.sessions["run"].drawn) + 1
                self.server.faults = [fault]
                batch = session.propose(step)
                self.server.faults = [fault]
                answer = session.feedback(step, batch.ids, {"loss": [1.0] * 4})
                self.assertEqual((batch.step, answer["observed"]), (step, step))

    def test_a_server_that_restarts_is_waited_for(self) -> None:
        session = self.session()
        first = session.propose(1).ids
        self.server.stop()
        back = threading.Timer(0.3, self.server.start)
        back.start()
        self.assertEqual(session.propose(1).ids, first)
        back.join()

    def test_patience_ends(self) -> None:
        session = self.another(patience_s=0.2).create_session(spec(), id="run")
        session.propose(1)
        began = time.monotonic()
        with self.assertRaises(CurateUnavailable) as raised:
            session.propose(2)
        self.assertLess(time.monotonic() - began, 3.0)
        self.assertEqual((raised.exception.code, raised.exception.status), ("client/unavailable", 425))
        self.assertIn("feedback of step 1 is missing", str(raised.exception))

    def test_nobody_listens(self) -> None:
        client = Client("http://127.0.0.1:9", patience_s=0.1)
        with self.assertRaises(ConnectionError):
            client.sessions()

    def test_a_refusal_is_not_repeated(self) -> None:
        session = self.session()
        with self.assertRaises(CurateError) as raised:
            session.propose(5)
        error = raised.exception
        self.assertEqual((error.status, error.code, error.hint, error.request_id, error.retriable), (409, "step/out-of-order", "a hint", "r-1", False))
        self.assertEqual(len(self.calls("/propose")), 1)

    def test_steering_takes_effect_once_whatever_is_lost(self) -> None:
        session = self.session()
        self.server.faults = ["drop-after"]
        session.steer(1, 2.0)
        self.assertEqual((len(self.calls("/steer")), self.server.sessions["run"].factor), (2, 2.0))
        session.steer(1, 2.0)
        self.assertEqual(self.server.sessions["run"].factor, 4.0)

    def test_a_call_that_must_not_be_repeated_is_not(self) -> None:
        session = self.session()
        self.server.faults = ["drop-after"]
        with self.assertRaises(CurateUnavailable) as raised:
            self.client.call("POST", "/v1/sessions/run/propose", {"step": 1}, repeatable=False)
        self.assertEqual(raised.exception.code, "client/answer-lost")
        self.assertEqual((len(self.calls("/propose")), session.refresh()["step"]), (1, 1))

    def test_connections_are_kept(self) -> None:
        session = self.session()
        for _ in range(20):
            session.refresh()
        self.assertEqual(self.server.connections, 1)

    def test_a_copy_in_another_process_opens_its_own_connection(self) -> None:
        session = self.session()
        copy = pickle.loads(pickle.dumps(session))
        self.assertEqual(copy.propose(1).ids, session.propose(1).ids)
        self.assertEqual(self.server.connections, 2)

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork")
    def test_a_forked_process_opens_its_own_connection(self) -> None:
        session = self.session()
        child = os.fork()
        if child == 0:
            os._exit(0 if session.propose(1).step == 1 else 1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if hasattr(os, "waitstatus_to_exitcode") else 0, 0)
        self.assertEqual(session.propose(1).step, 1)
        self.assertEqual(self.server.connections, 2)

    def test_token(self) -> None:
        self.server.token = "secret"
        with self.assertRaises(CurateError) as raised:
            self.client.sessions()
        self.assertEqual(raised.exception.status, 401)
        self.assertEqual(self.another(token="secret").sessions(), [])

    def test_pause_seek_history_delete(self) -> None:
        session = self.session(needs={"before": [], "after": []})
        cursors = [session.propose(step).cursor for step in range(1, 8)]
        self.assertEqual([point["step"] for point in session.history()], list(range(1, 8)))
        self.assertTrue(session.pause()["paused"])
        self.assertFalse(session.resume()["paused"])
        self.assertEqual(session.seek(cursors[2])["step"], 3)
        with self.assertRaises(CurateError):
            session.seek(cursors[5])
        self.server.faults = ["drop-after"]
        session.delete()
        self.assertEqual(self.server.sessions, {})

    def test_a_signal_that_is_no_number_is_named_before_it_travels(self) -> None:
        session = self.session()
        batch = session.propose(1)
        with self.assertRaises(CurateError) as raised:
            session.feedback(1, batch.ids, {"loss": [float("nan")] * 4})
        self.assertEqual(raised.exception.code, "client/not-finite")
        self.assertEqual(self.calls("/feedback"), [])

    def test_needs_are_known_once_a_session_is_ready(self) -> None:
        session = self.session()
        fake = self.server.sessions["run"]
        known, infos = fake.info, []

        def info() -> Dict[str, Any]:
            infos.append(1)
            return {**known(), "status": "preparing", "needs": {"before": [], "after": []}} if len(infos) < 3 else known()

        fake.info = info  # type: ignore[method-assign]
        session.refresh()
        stream = RowStream(session)
        next(stream)
        self.assertTrue(stream.waits_for_feedback)
        self.assertIsNone(stream._ahead)
        fake.info = lambda: {**known(), "status": "failed", "error": {"code": "plan/bad", "detail": "no"}}  # type: ignore[method-assign]
        with self.assertRaises(CurateError) as raised:
            session.wait_ready()
        self.assertEqual(raised.exception.code, "plan/bad")

    def test_jobs(self) -> None:
        self.assertEqual(self.client.create_job({"select": {}}, id="a")["status"], "queued")
        self.assertEqual(self.client.wait_job("a", every_s=0.001)["status"], "done")
        self.client.create_job({"select": {}}, id="bad")
        with self.assertRaises(CurateError) as raised:
            self.client.wait_job("bad", every_s=0.001)
        self.assertEqual(raised.exception.code, "plan/bad")
        self.client.delete_job("a")
        self.assertEqual([job["id"] for job in self.client.jobs()], ["bad"])

    def test_addresses(self) -> None:
        with self.assertRaises(CurateError):
            Client("ftp://somewhere")
        self.assertTrue(Client(self.server.url.replace("http://", "")).health())


if __name__ == "__main__":
    unittest.main()
