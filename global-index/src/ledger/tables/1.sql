-- The federation's books as tables, for finance and for auditors. Every row is written in the transaction that books the
-- entry; whatever contradicts a constraint is not booked. Amounts are integers in minor units of their currency.

CREATE TABLE ledger_entry (
    sequence bigint PRIMARY KEY CHECK (sequence >= 0),
    previous bigint REFERENCES ledger_entry (sequence),
    leaf bytea NOT NULL CHECK (octet_length(leaf) = 32),
    id bytea NOT NULL UNIQUE CHECK (octet_length(id) = 32),
    kind text NOT NULL CHECK (kind IN ('reserve', 'post', 'void', 'post-direct', 'reverse', 'hold', 'release')),
    number bigint NOT NULL,
    transfer text NOT NULL,
    source text NOT NULL,
    destination text NOT NULL,
    payer text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 9),
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    cap_minor bigint NOT NULL,
    stated_minor bigint,
    stated_currency text,
    about bytea REFERENCES ledger_entry (id),
    reason text,
    expires timestamptz,
    booked timestamptz NOT NULL,
    cycle text NOT NULL CHECK (cycle ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    quote bytea,
    consent bytea,
    acceptance bytea,
    header bytea,
    delivered bytea,
    key_release bytea,
    share_release bytea,
    receipt bytea,
    revocation bytea,
    recall bytea,
    hold_order bytea,
    refusal bytea,

    -- One after another: each names the one before it.
    CONSTRAINT ledger_no_gap CHECK (previous IS NOT DISTINCT FROM nullif(sequence, 0) - 1),
    CONSTRAINT ledger_parties CHECK (source <> destination AND (payer = destination OR payer LIKE 'patient:%')),
    CONSTRAINT ledger_within_cap CHECK (amount_minor <= cap_minor),
    CONSTRAINT ledger_number CHECK (CASE kind WHEN 'reverse' THEN number BETWEEN 0 AND 4294967295 ELSE number = 0 END),
    CONSTRAINT ledger_shape CHECK (CASE kind
        WHEN 'reserve' THEN expires IS NOT NULL AND about IS NULL AND reason IS NULL
        WHEN 'post' THEN expires IS NULL AND about IS NOT NULL AND reason IS NULL
        WHEN 'post-direct' THEN expires IS NULL AND reason IS NULL
        WHEN 'hold' THEN expires IS NULL AND reason IS NOT NULL
        ELSE expires IS NULL AND about IS NOT NULL AND reason IS NOT NULL
    END),
    CONSTRAINT ledger_stated CHECK ((stated_minor IS NULL) = (stated_currency IS NULL)
        AND (stated_minor IS NULL OR kind = 'hold')),
    -- What is disputed, and what two operators settled.
    CONSTRAINT ledger_disputed CHECK (CASE
        WHEN kind = 'hold' THEN reason = 'fee-disputed' AND receipt IS NOT NULL AND stated_minor IS NOT NULL
            OR reason = 'refused-after-delivery' AND refusal IS NOT NULL
        WHEN kind = 'release' THEN reason IN ('settled-for-payer', 'settled-for-source') AND hold_order IS NOT NULL
        ELSE reason IS DISTINCT FROM 'settled-for-payer' OR hold_order IS NOT NULL
    END),
    -- What was agreed on, by who pays.
    CONSTRAINT ledger_agreed CHECK (kind IN ('void', 'reverse', 'release') OR (quote IS NOT NULL
        AND CASE WHEN payer = destination THEN acceptance ELSE consent END IS NOT NULL)),
    -- A fee is due on a receipt, on delivery with both releases, or on the order of two operators.
    CONSTRAINT ledger_proved CHECK (kind NOT IN ('post', 'post-direct') OR receipt IS NOT NULL OR hold_order IS NOT NULL
        OR (delivered IS NOT NULL AND key_release IS NOT NULL AND share_release IS NOT NULL)),
    CONSTRAINT ledger_hashes CHECK (32 = ALL (ARRAY[
        octet_length(coalesce(quote, id)), octet_length(coalesce(consent, id)),
        octet_length(coalesce(acceptance, id)), octet_length(coalesce(header, id)),
        octet_length(coalesce(delivered, id)), octet_length(coalesce(key_release, id)),
        octet_length(coalesce(share_release, id)), octet_length(coalesce(receipt, id)),
        octet_length(coalesce(revocation, id)), octet_length(coalesce(recall, id)),
        octet_length(coalesce(hold_order, id)), octet_length(coalesce(refusal, id))]))
);

CREATE UNIQUE INDEX ledger_once ON ledger_entry (transfer, kind, number);
CREATE UNIQUE INDEX ledger_one_fee ON ledger_entry (transfer) WHERE kind IN ('post', 'post-direct');
CREATE UNIQUE INDEX ledger_resolved_once ON ledger_entry (about) WHERE kind IN ('post', 'void');
CREATE INDEX ledger_by_source ON ledger_entry (source, sequence);
CREATE INDEX ledger_by_destination ON ledger_entry (destination, sequence);
CREATE INDEX ledger_by_cycle ON ledger_entry (cycle, sequence);

CREATE TABLE ledger_posting (
    sequence bigint NOT NULL REFERENCES ledger_entry (sequence),
    line smallint NOT NULL CHECK (line >= 0),
    debit text NOT NULL,
    credit text NOT NULL,
    currency text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    PRIMARY KEY (sequence, line),
    CONSTRAINT ledger_two_sides CHECK (debit <> credit)
);

CREATE INDEX ledger_by_debit ON ledger_posting (debit, currency);
CREATE INDEX ledger_by_credit ON ledger_posting (credit, currency);

-- Nothing that stands is changed.
CREATE OR REPLACE FUNCTION ledger_append_only() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'the books are appended to only' USING ERRCODE = '23000', CONSTRAINT = 'ledger_append_only';
END $$;

CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_posting
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_append_only();

-- What holds between an entry and those before it.
CREATE OR REPLACE FUNCTION ledger_follows() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    broken text;
    of ledger_entry;
BEGIN
    SELECT * INTO of FROM ledger_entry WHERE id = NEW.about;
    IF NOT coalesce(CASE NEW.kind
            WHEN 'reserve' THEN NOT EXISTS (SELECT FROM ledger_entry
                WHERE transfer = NEW.transfer AND sequence < NEW.sequence)
            WHEN 'post' THEN of.kind = 'reserve' AND of.amount_minor = NEW.amount_minor
            WHEN 'void' THEN of.kind = 'reserve' AND of.amount_minor = NEW.amount_minor
            WHEN 'post-direct' THEN of.kind = 'void' OR NEW.about IS NULL AND NOT EXISTS (SELECT FROM ledger_entry
                WHERE transfer = NEW.transfer AND kind = 'reserve')
            WHEN 'reverse' THEN of.kind IN ('post', 'post-direct')
            WHEN 'hold' THEN NEW.about IS NULL
                OR of.kind IN ('reserve', 'post', 'post-direct') AND of.amount_minor = NEW.amount_minor
            WHEN 'release' THEN of.kind = 'hold'
        END, false) OR of.sequence >= NEW.sequence OR of.transfer <> NEW.transfer THEN
        broken := 'ledger_about';
    ELSIF EXISTS (SELECT FROM ledger_entry WHERE sequence = NEW.previous AND cycle > NEW.cycle) THEN
        broken := 'ledger_closed_cycle';
    ELSIF EXISTS (SELECT FROM ledger_entry WHERE transfer = NEW.transfer
        AND (source, destination, payer, currency, cap_minor)
            IS DISTINCT FROM (NEW.source, NEW.destination, NEW.payer, NEW.currency, NEW.cap_minor)) THEN
        broken := 'ledger_one_story';
    ELSIF NEW.kind = 'post' AND NEW.booked >= of.expires THEN
        broken := 'ledger_expired';
    ELSIF NEW.kind = 'post-direct' AND EXISTS (SELECT FROM ledger_entry WHERE transfer = NEW.transfer
        AND kind = 'release' AND reason = 'settled-for-payer' AND sequence < NEW.sequence) THEN
        broken := 'ledger_settled';
    ELSIF NEW.kind = 'reverse' AND of.amount_minor < (SELECT sum(amount_minor) FROM ledger_entry
        WHERE transfer = NEW.transfer AND kind = 'reverse' AND sequence <= NEW.sequence) THEN
        broken := 'ledger_reversed';
    END IF;
    IF broken IS NOT NULL THEN
        RAISE EXCEPTION 'an entry contradicts those before it' USING ERRCODE = '23000', CONSTRAINT = broken;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER ledger_follows AFTER INSERT ON ledger_entry FOR EACH ROW EXECUTE FUNCTION ledger_follows();

-- Double entry: what moves money moves all of its amount, from who owes it to who it is owed to; a hold moves nothing.
CREATE OR REPLACE FUNCTION ledger_balanced() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    entry ledger_entry;
    moved bigint;
    lines bigint;
    wrong bigint;
BEGIN
    SELECT * INTO entry FROM ledger_entry WHERE sequence = NEW.sequence;
    SELECT coalesce(sum(amount_minor), 0), count(*),
            count(*) FILTER (WHERE debit <> CASE entry.kind WHEN 'reverse' THEN entry.source ELSE entry.payer END
                OR credit <> CASE entry.kind WHEN 'reverse' THEN entry.payer ELSE entry.source END
                OR currency <> entry.currency)
        INTO moved, lines, wrong FROM ledger_posting WHERE sequence = NEW.sequence;
    IF wrong > 0 OR (entry.kind IN ('hold', 'release')) = (lines > 0)
        OR (lines > 0 AND moved <> entry.amount_minor) THEN
        RAISE EXCEPTION 'an entry and its postings differ'
            USING ERRCODE = '23000', CONSTRAINT = 'ledger_balanced';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER ledger_balanced AFTER INSERT ON ledger_entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_balanced();
CREATE CONSTRAINT TRIGGER ledger_balanced AFTER INSERT ON ledger_posting
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_balanced();

-- What the entries add up to, by party and currency. Nothing is kept of it, so no row is written by every booking.
CREATE VIEW ledger_balance AS
    WITH moved AS (
        SELECT debit, credit, p.currency, exponent,
            CASE kind WHEN 'reserve' THEN p.amount_minor WHEN 'post' THEN -p.amount_minor
                WHEN 'void' THEN -p.amount_minor ELSE 0 END AS pending,
            CASE WHEN kind IN ('post', 'post-direct', 'reverse') THEN p.amount_minor ELSE 0 END AS posted
        FROM ledger_posting p JOIN ledger_entry USING (sequence)
    ), sides AS (
        SELECT debit AS holder, currency, exponent, pending AS pending_debit, 0 AS pending_credit,
            posted AS posted_debit, 0 AS posted_credit FROM moved
        UNION ALL SELECT credit, currency, exponent, 0, pending, 0, posted FROM moved
    )
    SELECT holder, currency, exponent,
        sum(pending_debit)::bigint AS pending_debits_minor, sum(pending_credit)::bigint AS pending_credits_minor,
        sum(posted_debit)::bigint AS posted_debits_minor, sum(posted_credit)::bigint AS posted_credits_minor,
        round((sum(posted_credit) - sum(posted_debit)) / 10::numeric ^ exponent, exponent) AS net_posted
    FROM sides GROUP BY holder, currency, exponent;

-- One row for each transfer with a fee.
CREATE VIEW ledger_fee AS
    SELECT transfer, source, destination, payer, currency, exponent,
        CASE
            WHEN max(sequence) FILTER (WHERE kind = 'hold')
                > coalesce(max(sequence) FILTER (WHERE kind NOT IN ('hold', 'reverse')), -1) THEN 'held'
            WHEN count(*) FILTER (WHERE kind IN ('post', 'post-direct')) > 0 THEN 'posted'
            WHEN count(*) FILTER (WHERE kind IN ('void', 'release')) > 0 THEN 'void'
            ELSE 'reserved'
        END AS state,
        max(amount_minor) FILTER (WHERE kind IN ('post', 'post-direct')) AS posted_minor,
        coalesce(sum(amount_minor) FILTER (WHERE kind = 'reverse'), 0)::bigint AS reversed_minor,
        min(booked) AS first_booked, max(booked) AS last_booked, max(cycle) AS last_cycle,
        max(sequence) AS last_sequence
    FROM ledger_entry e GROUP BY transfer, source, destination, payer, currency, exponent;

COMMENT ON TABLE ledger_entry IS
    'The books, one row for each entry, appended to only. The index goes by its own sealed copy; handover-index check '
    'says whether both are the same.';
COMMENT ON COLUMN ledger_entry.sequence IS 'Place in the books and leaf of the log, from 0 without gaps';
COMMENT ON COLUMN ledger_entry.leaf IS 'RFC 6962 leaf hash, as proofs of inclusion have it';
COMMENT ON COLUMN ledger_entry.number IS 'Tells reversals of one fee apart; else 0';
COMMENT ON COLUMN ledger_entry.payer IS 'The destination on a referral, else patient: and the patient''s reference';
COMMENT ON COLUMN ledger_entry.exponent IS 'Digits after the point (ISO 4217): an amount is amount_minor / 10 ^ exponent';
COMMENT ON COLUMN ledger_entry.cap_minor IS 'The most that the payer signed for';
COMMENT ON COLUMN ledger_entry.stated_minor IS 'The fee as the destination states it, in stated_currency';
COMMENT ON COLUMN ledger_entry.about IS 'The id of the entry that this one resolves, follows or takes back';
COMMENT ON COLUMN ledger_entry.expires IS 'From when on a reservation can only be voided';
COMMENT ON COLUMN ledger_entry.cycle IS 'The settlement cycle, a month (UTC): never before that of an earlier entry';
COMMENT ON COLUMN ledger_entry.quote IS 'This and those after it: SHA-256 of what the entry stands on';
COMMENT ON TABLE ledger_posting IS 'Debits with their credits, from who owes to who is owed';
COMMENT ON VIEW ledger_balance IS 'Balances by party and currency: pending (reserved) and posted (due)';
COMMENT ON VIEW ledger_fee IS 'One row for each transfer with a fee: reserved, posted, void, or held for people';
