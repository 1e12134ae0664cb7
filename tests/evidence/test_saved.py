"""Documents that somebody kept: a head, a checkpoint, a proof. Promise 7: what is not what was printed shows."""

import hashlib
import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.evidence import checkpoint, saved
from alphalens_keyctl.logs import audit, merkle_tree, proof
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.logs.proof import Proof
from alphalens_keyctl.models import Event
from alphalens_keyctl.moments import rfc3339_exact
from alphalens_keyctl.output import documents, evidence

AT = datetime(2026, 11, 26, 9, 0, 0, 123456, UTC)
HEAD = Head(3, b"\x0f" * 32, AT, b"\xf0" * 32, b"\x01" * 32)


def printed(head: Head = HEAD, signature: str | None = None) -> dict[str, Any]:
    return evidence.kept_head_object(head, checkpoint.text(checkpoint.of(head)), signature)


def test_a_head_is_read_as_it_was_printed_with_and_without_its_tree() -> None:
    known = HEAD._replace(first=None)
    found = saved.parse_head(documents.json_document(printed(signature="signed")).encode())
    assert found == (known, checkpoint.text(checkpoint.of(HEAD)), "signed")
    assert saved.parse_head(json.dumps(documents.head_object(HEAD)).encode()) == (known._replace(root=None), None, None)


def test_a_checkpoint_is_a_head_with_the_signatures_of_witnesses_and_without() -> None:
    text = checkpoint.text(checkpoint.of(HEAD, "example.com/keys"))
    assert text == "example.com/keys\n3\n8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PA=\n"
    head = Head(3, b"", None, HEAD.root)
    for note in (text, f"{text}\n— example.com/keys Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe\n"):
        assert saved.parse_head(note.encode()) == (head, text, None)


@pytest.mark.parametrize("origin", ["", "a b", "a\nb", "a+b", "ä", "a" * 201])
def test_an_origin_that_no_checkpoint_can_have_is_refused(origin: str) -> None:
    with pytest.raises(KeyctlError) as refused:
        checkpoint.parse_origin(origin)
    assert refused.value.code is Code.INVALID_INPUT
    refuse_head(f"{origin}\n3\n{checkpoint.text(checkpoint.of(HEAD)).splitlines()[2]}\n".encode())


def test_a_head_that_contradicts_itself_or_is_none_is_refused() -> None:
    """Promise 7: what is signed, the checkpoint, is what the document says."""
    good = printed()
    other = checkpoint.text(checkpoint.of(HEAD._replace(seq=4)))
    for change in (
        {"seq": 4}, {"seq": "3"}, {"seq": True}, {"seq": -3}, {"hash": "0f"}, {"root_hash": "0f" * 32},
        {"tree_size": 4}, {"checkpoint": other},
        {"checkpoint": 3}, {"root_hash": None}, {"signature": 3}, {"at": "yesterday"},
    ):  # fmt: skip
        refuse_head(json.dumps(good | change).encode())
    text = checkpoint.text(checkpoint.of(HEAD))
    for note in (
        "",
        "\n",
        "{}",
        "[]",
        text[:-1] + "more\n",
        text.replace("3", "03"),
        text + "extension\n",
        text[1:] * 2,
    ):
        refuse_head(note.encode())
    refuse_head(b"\xff")
    refuse_head(b"[" * 100_000)


def refuse_head(content: bytes) -> None:
    with pytest.raises(KeyctlError) as refused:
        saved.parse_head(content)
    assert refused.value.code is Code.INVALID_INPUT, content


@cache
def proven() -> tuple[Proof, bytes, str]:
    """The proof of event 3 of 5, the root, and the document."""
    events: list[tuple[Event, bytes]] = []
    for seq in range(1, 6):
        previous = events[-1][0].hash if events else audit.GENESIS
        event = Event(seq, AT, "ánn", "key.create", f"id{seq}", None, {"reason": 'a "b" é', "n": [seq, 1.5]}, b"")
        detail = json.dumps(event.detail, sort_keys=True, separators=(",", ":"))
        form = audit.canonical(seq, rfc3339_exact(AT), event.actor, event.action, event.key_id, None, detail, previous)
        events.append((event._replace(hash=hashlib.sha256(form).digest()), previous))
    root, path = merkle_tree.inclusion([[event.hash for event, _ in events]], 2)
    made = Proof(*events[2], 5, tuple(path))
    return made, root, documents.json_document(evidence.proof_object(made))


def test_a_proof_is_read_as_it_was_printed() -> None:
    made, root, document = proven()
    assert saved.parse_proof(document.encode()) == made
    assert proof.flaw(made, 5, root) is None


def holds(document: bytes, root: bytes) -> bool:
    try:
        found = saved.parse_proof(document)
    except KeyctlError:
        return False
    return proof.flaw(found, 5, root) is None


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
@example(place=0, flip=1)
def test_a_proof_with_any_byte_flipped_does_not_hold(place: int, flip: int) -> None:
    """Promise 7; a space between two values may become another white space."""
    _, root, document = proven()
    altered = bytearray(document.encode())
    altered[place % len(altered)] ^= flip
    assert not holds(bytes(altered), root) or json.loads(altered) == json.loads(document)


def test_a_proof_with_any_bit_flipped_does_not_hold() -> None:
    """Promise 7: all of them."""
    _, root, document = proven()
    said = json.loads(document)
    tries = 0
    for place in range(len(document)):
        for bit in range(8):
            altered = bytearray(document.encode())
            altered[place] ^= 1 << bit
            assert not holds(bytes(altered), root) or json.loads(altered) == said, (place, bit, bytes(altered))
            tries += 1
    assert tries == 8 * len(document)


def test_what_is_no_proof_or_says_more_than_is_proven_is_refused() -> None:
    """Promise 7."""
    document = json.loads(proven()[2])
    event = document["event"]
    for altered in (
        document | {"approved": True},
        document | {"event": event | {"approved": True}},
        {name: value for name, value in document.items() if name != "path"},
        document | {"event": event | {"seq": "3"}},
        document | {"event": event | {"actor": 3}},
        document | {"event": event | {"key_name": 0}},
        document | {"event": event | {"detail": "{}"}},
        document | {"event": event | {"at": "2026-11-26T09:00:00.123456+00:00"}},
        document | {"path": document["path"] * 40},
        document | {"previous_hash": document["previous_hash"].upper()},
        [document],
        None,
    ):
        with pytest.raises(KeyctlError) as refused:
            saved.parse_proof(json.dumps(altered).encode())
        assert refused.value.code is Code.INVALID_INPUT, altered
