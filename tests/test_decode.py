"""What a micro-turn's odds make the model do."""

import torch

from interplay.model.config import DECISIONS, DELEGATE, LISTEN
from interplay.model.decode import HAND_OVER, SURE, decide


def odds(**shares: float) -> torch.Tensor:
    row = torch.zeros(1, len(DECISIONS))
    for name, share in shares.items():
        row[0, DECISIONS.index(name)] = share
    return row


def test_it_listens_unless_it_is_sure():
    assert decide(odds(listen=0.4, speak=0.6)).tolist() == [LISTEN]
    assert decide(odds(listen=0.3, speak=0.7)).tolist() == [DECISIONS.index("speak")]


def test_a_delegation_takes_half_of_that_and_must_be_the_likeliest_act():
    enough = HAND_OVER * SURE + 0.01
    assert decide(odds(listen=1 - enough, delegate=enough)).tolist() == [DELEGATE]
    assert decide(odds(listen=1 - enough + 0.02, delegate=enough - 0.02)).tolist() == [LISTEN]
    assert decide(odds(listen=0.45, speak=0.3, delegate=0.25)).tolist() == [LISTEN]
    assert decide(odds(listen=0.2, speak=0.42, delegate=0.38)).tolist() == [DECISIONS.index("speak")]


def test_every_session_has_its_own_threshold():
    both = torch.cat([odds(listen=0.6, delegate=0.4)] * 2)
    assert decide(both, torch.tensor([0.9, 0.65])).tolist() == [LISTEN, DELEGATE]
