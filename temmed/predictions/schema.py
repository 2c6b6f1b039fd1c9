"""The columns of the prediction tables.

``answers`` has one row per question. A null ``answer`` to a question with choices means that no choice could be read
from what the model said: it is scored as wrong and counted apart.

``events`` has one row per interval that the model sees in a sequence, in the sequence's own time unit. A row with
neither ``onset`` nor ``offset`` says that the labelled event never happens; a row with an onset alone says that it is
still there at the end.

``statements`` has one row per statement: the probability that it agrees with the images up to its position.

``maps`` has one row per question: how much each place of the asked image counted, and of what was remembered how much
was of each position; null shares of a model whose memory has no positions.

``reports`` has one row per position whose report is written; ``boxes`` one per finding and image, with the corners in
pixels of the image file, as in the table of the data.
"""

from __future__ import annotations

import pyarrow as pa

ANSWERS = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("answer", pa.string()),
        pa.field("probabilities", pa.list_(pa.float64())),  # in the order of the question's choices
        pa.field("value", pa.float64()),
        pa.field("confidence", pa.float64()),
        pa.field("evidence", pa.list_(pa.int64())),  # positions
        pa.field("cited_report_id", pa.string()),
        pa.field("cited_sentence", pa.string()),
        pa.field("rationale", pa.string()),
    ]
)

EVENTS = pa.schema(
    [
        pa.field("sequence_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("onset", pa.float64()),
        pa.field("offset", pa.float64()),
        pa.field("score", pa.float64()),
    ]
)

STATEMENTS = pa.schema(
    [
        pa.field("statement_id", pa.string(), nullable=False),
        pa.field("probability", pa.float64(), nullable=False),
    ]
)

MAPS = pa.schema(
    [
        pa.field("question_id", pa.string(), nullable=False),
        pa.field("places", pa.list_(pa.float32())),  # in row-major order of the grid of the asked image
        pa.field("positions", pa.list_(pa.int64())),
        pa.field("shares", pa.list_(pa.float32())),  # of each of the positions
    ]
)

REPORTS = pa.schema(
    [
        pa.field("sequence_id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

BOXES = pa.schema(
    [
        pa.field("finding_id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in ("x1", "y1", "x2", "y2")),
    ]
)

#: Every table by its name.
SCHEMAS = {
    "answers": ANSWERS,
    "events": EVENTS,
    "statements": STATEMENTS,
    "maps": MAPS,
    "reports": REPORTS,
    "boxes": BOXES,
}
