"""Verifies Handover's artefacts with an implementation of COSE and CBOR that shares no code with it.

usage: verify.py CASES.json

Each case: name, envelope (file), keys (hexadecimal Ed25519 public keys, the outermost signature's first), type,
payload (hexadecimal) and whether it is valid. Exit status 0 if every case comes out as it says.
"""

import json
import pathlib
import sys

import cbor2
from cwt import COSE, COSEKey

SIGN1_TAG = 18
ALGORITHM, KEY_ID, TYPE = 1, 4, 16
EDDSA = -8


def check_form(envelope):
    """The form that the protocol promises, read with cbor2 alone. Gives the type and the payload."""
    outer = cbor2.loads(envelope)
    assert isinstance(outer, cbor2.CBORTag) and outer.tag == SIGN1_TAG, "not a tagged COSE_Sign1"
    protected, unprotected, payload, signature = outer.value
    assert dict(unprotected) == {}, "the unprotected header is not empty"
    assert len(signature) == 64, "not an Ed25519 signature"
    header = cbor2.loads(protected)
    assert set(header) == {ALGORITHM, KEY_ID, TYPE}, f"other headers: {sorted(header)}"
    assert header[ALGORITHM] == EDDSA and len(header[KEY_ID]) == 32 and isinstance(header[TYPE], str)
    return header[TYPE], header[KEY_ID], payload


def check_payload(payload):
    """A map with ascending integer keys in the deterministic encoding."""
    fields = cbor2.loads(payload)
    assert list(fields) == sorted(fields) and all(isinstance(key, int) for key in fields)
    assert cbor2.dumps(fields, canonical=True) == payload, "not deterministically encoded"


def verified_payload(envelope, public, key_id):
    key = COSEKey.new({1: 1, 2: key_id, 3: EDDSA, -1: 6, -2: public})
    return COSE.new().decode(envelope, key)


def check(case, folder):
    envelope = (folder / case["envelope"]).read_bytes()
    label = case["type"]
    for depth, key in enumerate(case["keys"]):
        found, key_id, payload = check_form(envelope)
        wanted = label + "+countersigned" * (len(case["keys"]) - depth - 1)
        assert found == wanted, f"{found} instead of {wanted}"
        assert verified_payload(envelope, bytes.fromhex(key), key_id) == payload
        envelope = payload
    check_payload(envelope)
    assert envelope.hex() == case["payload"], "another payload"


def main():
    path = pathlib.Path(sys.argv[1])
    failures, counts = [], {True: 0, False: 0}
    for case in json.loads(path.read_text()):
        try:
            check(case, path.parent)
            fault = None
        except Exception as error:  # whatever it says no with, it says no
            fault = f"{type(error).__name__}: {error}"
        if case["valid"] != (fault is None):
            failures.append(f'{case["name"]}: {fault or "accepted, though altered"}')
        counts[case["valid"]] += 1
    print(f"{counts[True]} accepted, {counts[False]} refused" if not failures else "\n".join(failures))
    sys.exit(1 if failures else 0)


main()
