"""The order of rows: what a trainer sees through kills, prefetch, ranks and resumes."""

from __future__ import annotations

import json
import unittest
from typing import Any, Dict, List, Tuple

from curate_client import CurateError, Feedback, RowStream, Session
from tests.support import ServerCase, loss, spec, train

FREE: Dict[str, List[str]] = {"before": [], "after": []}


class Streams(ServerCase):
    def run_through(self, session: Session, steps: int, **options: Any) -> List[List[int]]:
        return train(session, RowStream(session, **options), Feedback(session), steps)

    def test_a_killed_trainer_that_resumes_sees_what_an_unbroken_one_sees(self) -> None:
        for lag in (0, 2):
            with self.subTest(lag=lag):
                whole = self.run_through(self.session(f"whole-{lag}", lag=lag), 12)
                session = self.session(f"broken-{lag}", lag=lag)
                stream, feedback = RowStream(session), Feedback(session)
                first = train(session, stream, feedback, 5)
                saved = json.dumps(feedback.state_dict())
                train(session, stream, feedback, 3)  # lost with the trainer
                session = self.session(f"broken-{lag}", lag=lag)
                stream, feedback = RowStream(session), Feedback(session)
                stream.load_state_dict(json.loads(saved))
                feedback.load_state_dict(json.loads(saved))
                self.assertEqual(first + train(session, stream, feedback, 7), whole)

    def test_feedback_decides_what_comes_next(self) -> None:
        whole = self.run_through(self.session("a"), 3)
        session = self.session("b")
        for step in (1, 2):
            session.feedback(step, session.propose(step).ids, {"loss": [9.0] * 4})
        self.assertEqual(whole[0], session.propose(1).ids)
        self.assertNotEqual(whole[2], session.propose(3).ids)

    def test_a_checkpoint_inside_a_step(self) -> None:
        whole = self.run_through(self.session("whole"), 4)
        session = self.session("broken")
        stream, feedback = RowStream(session), Feedback(session)
        train(session, stream, feedback, 2)
        used = [next(stream) for _ in range(3)]
        feedback.add(3, [d.row.row for d in used], 4, {"loss": [loss(3, d.row.row) for d in used]})
        saved = json.dumps(feedback.state_dict())
        stream, feedback = RowStream(session), Feedback(session)
        stream.load_state_dict(json.loads(saved))
        feedback.load_state_dict(json.loads(saved))
        last = next(stream)
        self.assertEqual([d.row.row for d in used] + [last.row.row], whole[2])
        feedback.add(3, [last.row.row], 4, {"loss": [loss(3, last.row.row)]})
        feedback.flush()
        self.assertEqual(train(session, stream, feedback, 1), whole[3:])

    def test_the_state_is_where_rows_were_yielded_not_where_they_were_fetched(self) -> None:
        session = self.session(needs=FREE)
        stream = RowStream(session)
        rows = [next(stream).row.row for _ in range(10)]
        state = stream.state_dict()
        self.assertEqual((state["step"], state["offset"]), (2, 2))
        rest = [next(stream).row.row for _ in range(6)]
        again = RowStream(session)
        again.load_state_dict(state)
        self.assertEqual([next(again).row.row for _ in range(6)], rest)
        self.assertNotEqual(rows[:6], rest)

    def test_starting_anew_forgets_and_continuing_does_not(self) -> None:
        session = self.session(needs=FREE)
        first = [next(RowStream(session, prefetch=False)).row.row]
        stream = RowStream(session, prefetch=False)
        rows = [next(stream).row.row for _ in range(9)]
        self.assertEqual(rows[:1], first)
        self.assertEqual(session.refresh()["step"], 3)
        self.assertEqual(next(RowStream(session, start="continue", prefetch=False)).step, 4)
        self.assertEqual(next(RowStream(session, prefetch=False)).step, 1)
        self.assertEqual(session.refresh()["step"], 1)

    def test_prefetch_only_where_nobody_waits_for_the_trainer(self) -> None:
        for changes, ahead in (({}, False), ({"lag": 1}, True), ({"needs": FREE}, True)):
            with self.subTest(**changes):
                session = self.session(f"s{ahead}{len(changes)}{'lag' in changes}", **changes)
                stream = RowStream(session)
                next(stream)
                self.assertEqual(stream._ahead is not None, ahead)
                if stream._ahead:
                    self.assertEqual(stream._ahead.result().step, 2)
                    before = len(self.calls("/propose"))
                    [next(stream) for _ in range(4)]
                    self.assertLessEqual(len(self.calls("/propose")) - before, 1)  # step 2 was there; step 3 is on its way

    def test_the_end(self) -> None:
        session = self.session(needs=FREE, steps=3)
        self.assertEqual(len(list(RowStream(session))), 12)
        self.assertEqual(len(list(RowStream(session, prefetch=False))), 12)

    def test_ranks_share_a_step_without_overlap(self) -> None:
        session = self.session(ranks=2)
        streams = [RowStream(session, rank, 2, sync=lambda: None) for rank in (0, 1)]
        feedbacks = [Feedback(session, rank) for rank in (0, 1)]
        for step in (1, 2, 3):
            drawn = [[next(stream) for _ in range(4)] for stream in streams]
            rows = [d.row.row for ours in drawn for d in ours]
            self.assertEqual(sorted(rows), sorted(self.server.sessions["run"].drawn[step - 1]))
            for ours, feedback in zip(drawn, feedbacks):
                ids = [d.row.row for d in ours]
                feedback.add(step, ids, 4, {"loss": [1.0] * 4})
                feedback.flush()
        self.assertEqual(session.refresh()["observed"], 3)

    def test_ranks_must_agree_and_wait_for_one_another(self) -> None:
        with self.assertRaises(CurateError) as raised:
            RowStream(self.session(), 0, 2)
        self.assertEqual(raised.exception.code, "client/ranks")
        stream = RowStream(self.session("two", ranks=2), 1, 2)
        with self.assertRaises(CurateError) as raised:
            next(stream)
        self.assertEqual(raised.exception.code, "client/no-barrier")

    def test_only_rank_0_goes_back(self) -> None:
        session = self.session(ranks=2, needs=FREE)
        session.propose(1)
        waited = []
        next(RowStream(session, 1, 2, sync=lambda: waited.append(1), prefetch=False))
        self.assertEqual((self.calls("/seek"), waited), ([], [1]))
        next(RowStream(session, 0, 2, sync=lambda: waited.append(0), prefetch=False))
        self.assertEqual((self.calls("/seek"), waited), ([{"step": 0}], [1, 0]))

    def test_a_rank_without_rows_in_a_step_says_so(self) -> None:
        session = self.session(batch=1, ranks=2, short_every=2)
        streams = [RowStream(session, rank, 2, sync=lambda: None) for rank in (0, 1)]
        feedbacks = [Feedback(session, rank) for rank in (0, 1)]

        def one(rank: int) -> Tuple[int, int]:
            drawn = next(streams[rank])
            feedbacks[rank].add(drawn.step, [drawn.row.row], drawn.of, {"loss": [1.0]})
            feedbacks[rank].flush()
            return rank, drawn.step

        self.assertEqual([one(0), one(1), one(0)], [(0, 1), (1, 1), (0, 2)])
        feedbacks[1].skipped(2, None)
        import threading

        other = threading.Thread(target=one, args=(1,))  # passes step 2, which has no row for rank 1
        other.start()
        self.assertEqual(one(0), (0, 3))
        other.join()
        self.assertEqual(session.refresh()["observed"], 3)

    def test_candidates_are_scored_where_the_method_wants_it(self) -> None:
        needs = {"before": ["signal.loss"], "after": []}
        session = self.session(needs=needs)
        with self.assertRaises(CurateError) as raised:
            next(RowStream(session))
        self.assertEqual(raised.exception.code, "client/no-score")
        stream = RowStream(session, score=lambda found: {"loss": [row / 10 for row in found.ids]})
        next(stream)
        self.assertEqual(self.server.sessions["run"].given[1], {"rows": [0, 1, 2, 3, 4, 5], "signals": {"loss": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]}})

    def test_the_preview_moves_nothing(self) -> None:
        session = self.session(needs=FREE)
        [session.propose(step) for step in (1, 2, 3)]
        self.assertEqual(len(RowStream(session).peek()), 4)
        self.assertEqual(session.refresh()["step"], 3)

    def test_a_state_of_another_session_is_refused(self) -> None:
        stream = RowStream(self.session())
        with self.assertRaises(CurateError):
            stream.load_state_dict({"session": "other", "step": 1, "offset": 0, "cursor": None})

    def test_a_forgotten_cursor_is_found_out(self) -> None:
        session = self.session()
        stream, feedback = RowStream(session), Feedback(session)
        train(session, stream, feedback, 3)
        saved = feedback.state_dict()
        session.seek(step=1)
        session.feedback(2, session.propose(2).ids, skip=False, signals={"loss": [7.0] * 4})
        session.propose(3)
        again = RowStream(session)
        again.load_state_dict(saved)
        with self.assertRaises(CurateError) as raised:
            next(again)
        self.assertEqual(raised.exception.code, "cursor/forgotten")


class Feedbacks(ServerCase):
    def test_a_step_is_sent_once_it_is_whole_and_in_order(self) -> None:
        session = self.session(lag=2)
        first, second = session.propose(1).ids, session.propose(2).ids
        feedback = Feedback(session)
        feedback.add(1, first[:3], 4, {"loss": [1.0, 2.0, 3.0]})
        feedback.add(2, second, 4, {"loss": [5.0] * 4})
        self.assertEqual(feedback.flush(), 0)
        feedback.add(1, first[3:], 4, {"loss": [4.0]})
        self.assertEqual(feedback.flush(), 2)
        self.assertEqual([call["step"] for call in self.calls("/feedback")], [1, 2])
        self.assertEqual(self.calls("/feedback")[0], {"step": 1, "rank": 0, "rows": first, "signals": {"loss": [1.0, 2.0, 3.0, 4.0]}})

    def test_rows_without_a_finite_signal_are_left_out(self) -> None:
        session = self.session()
        rows = session.propose(1).ids
        feedback = Feedback(session)
        feedback.add(1, rows, 4, {"loss": [1.0, float("nan"), float("inf"), 2.0]})
        with self.assertWarns(UserWarning):
            feedback.flush()
        self.assertEqual(self.calls("/feedback")[0]["rows"], [rows[0], rows[3]])
        rows = session.propose(2).ids
        feedback.add(2, rows, 4, {"loss": [float("nan")] * 4})
        with self.assertWarns(UserWarning):
            feedback.flush()
        self.assertTrue(self.calls("/feedback")[1]["skip"])

    def test_twice_and_late_are_refused(self) -> None:
        session = self.session()
        rows = session.propose(1).ids
        feedback = Feedback(session)
        feedback.add(1, rows, 4, {"loss": [1.0] * 4})
        with self.assertRaises(CurateError):
            feedback.add(1, rows[:1], 4, {"loss": [1.0]})
        feedback.flush()
        with self.assertRaises(CurateError):
            feedback.add(1, rows, 4, {"loss": [1.0] * 4})


if __name__ == "__main__":
    unittest.main()
