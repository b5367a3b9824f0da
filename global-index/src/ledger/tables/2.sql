-- What nobody holds can make room: each row that goes is looked for as another one's predecessor, or what that is about.

CREATE INDEX ledger_by_previous ON ledger_entry (previous);
CREATE INDEX ledger_by_about ON ledger_entry (about) WHERE about IS NOT NULL;
