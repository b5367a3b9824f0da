-- A fee is held until what was booked since settles it; what was booked for an order, only with the order's own entry, and
-- what time has ended, never.

CREATE OR REPLACE VIEW ledger_fee AS
    SELECT transfer, source, destination, payer, currency, exponent,
        CASE
            WHEN max(sequence) FILTER (WHERE kind = 'hold') > coalesce(max(sequence) FILTER (WHERE kind = 'release'
                OR kind NOT IN ('hold', 'reverse') AND hold_order IS NULL
                    AND coalesce(reason, '') NOT IN ('reservation-expired', 'consent-expired')), -1) THEN 'held'
            WHEN count(*) FILTER (WHERE kind IN ('post', 'post-direct')) > 0 THEN 'posted'
            WHEN count(*) FILTER (WHERE kind IN ('void', 'release')) > 0 THEN 'void'
            ELSE 'reserved'
        END AS state,
        max(amount_minor) FILTER (WHERE kind IN ('post', 'post-direct')) AS posted_minor,
        coalesce(sum(amount_minor) FILTER (WHERE kind = 'reverse'), 0)::bigint AS reversed_minor,
        min(booked) AS first_booked, max(booked) AS last_booked, max(cycle) AS last_cycle,
        max(sequence) AS last_sequence
    FROM ledger_entry e GROUP BY transfer, source, destination, payer, currency, exponent;
