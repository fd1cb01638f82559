"""Arrow streams; without pyarrow the tests say so."""

from __future__ import annotations

import io
import sys
import unittest

from curate_client.wire import batch_from_arrow, signals_to_arrow

try:
    import pyarrow as pa
    import pyarrow.ipc
except ImportError:
    pa = None  # type: ignore[assignment]
    print("SKIPPED: pyarrow is not installed, so Arrow streams are not tested", file=sys.stderr)


@unittest.skipIf(pa is None, "pyarrow is not installed")
class Arrow(unittest.TestCase):
    def test_a_batch(self) -> None:
        table = pa.table({
            "row": pa.array([7, 9], pa.uint64()), "weight": pa.array([1.0, None], pa.float32()), "score": pa.array([None, 0.5], pa.float32()),
            "group": pa.array([None, 3], pa.uint32()), "messages": pa.array([[{"role": "user", "content": "a"}], []]),
        })
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        headers = {"curate-step": "4", "curate-epoch": "1", "curate-end": "false", "curate-cursor": "run:4:ab"}
        batch = batch_from_arrow("run", 2, headers, sink.getvalue())
        self.assertEqual((batch.step, batch.rank, batch.epoch, batch.end, batch.cursor, batch.ids), (4, 2, 1, False, "run:4:ab", [7, 9]))
        self.assertEqual((batch.rows[1].weight, batch.rows[1].score, batch.rows[1].group), (1.0, 0.5, 3))
        self.assertEqual(batch.rows[0].data, {"messages": [{"role": "user", "content": "a"}]})

    def test_signals(self) -> None:
        table = pa.ipc.open_stream(signals_to_arrow([3, 4], {"loss": [0.5, 1.5], "sketch": [[1.0, 2.0], [3.0, 4.0]]})).read_all()
        self.assertEqual(table.column_names, ["row", "signal.loss", "signal.sketch"])
        self.assertEqual(table["signal.sketch"].to_pylist(), [[1.0, 2.0], [3.0, 4.0]])
        self.assertEqual(str(table.schema.field("row").type), "uint64")


if __name__ == "__main__":
    unittest.main()
