"""What every image goes through before the model."""

from __future__ import annotations

import json
from dataclasses import replace

from temmed.data.fitted import Fitted
from temmed.data.preparation import Preparation

ALL = Preparation(register="rigid", spacing=(3.0, 1.0, 1.0), slices=5, size=(32, 32))


def test_it_comes_back_from_json_with_the_same_key() -> None:
    again = Preparation.from_dict(json.loads(json.dumps(ALL.to_dict())))
    assert again == ALL
    assert again.key() == ALL.key()
    changes = ({"register": None}, {"spacing": (3.0, 1.0, 1.1)}, {"slices": 6}, {"size": None})
    assert len({ALL.key(), *(replace(ALL, **change).key() for change in changes)}) == 5


def test_what_was_fitted_before_there_were_other_steps_is_resized(fitted: Fitted) -> None:
    saved = fitted.to_dict()
    assert saved.pop("preparation") == {"register": None, "spacing": None, "slices": None, "size": [32, 32]}
    assert Fitted.from_dict(saved) == fitted
    assert not fitted.native
    assert replace(fitted, preparation=Preparation()).native
