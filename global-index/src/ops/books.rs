//! Operations on the books, the mailboxes and the store as a whole.

use handover_core::ledger::{AccountBalance, Entry, LedgerError};
use handover_core::{Amount, Currency};
use handover_store::SCAN_MAX_CELLS;

use super::views::{
    AccountView, AmountsView, BalancesView, CheckView, DeadView, EntriesView, EntryView, MailView,
};
use super::{Operations, OpsError};
use crate::ledger::{BooksError, Filter, Listed};
use crate::{registry, routing};

/// Entries of one page.
const PAGE_ENTRIES: usize = 500;

fn amounts(currency: Currency, balance: &AccountBalance) -> AmountsView {
    let decimal = |minor| Amount::from_minor(minor, currency).to_decimal_string();
    AmountsView {
        currency: currency.to_string(),
        pending_debits: decimal(balance.pending.debits_minor),
        pending_credits: decimal(balance.pending.credits_minor),
        posted_debits: decimal(balance.posted.debits_minor),
        posted_credits: decimal(balance.posted.credits_minor),
    }
}

/// Why a fee is held, for people.
pub(super) fn why_held(hold: &Entry) -> String {
    match hold.stated {
        Some(stated) => format!("the receipt states {stated}, reserved is {}", hold.amount),
        None => format!("the destination refused after delivery, reserved is {}", hold.amount),
    }
}

fn entry_view(Listed { sequence, entry }: Listed, hold: Option<String>) -> EntryView {
    let proof = entry.proof().map(|proof| proof.to_string());
    EntryView {
        sequence,
        id: entry.id.to_string(),
        kind: entry.kind.to_string(),
        transfer: entry.transfer.to_string(),
        source: entry.source,
        destination: entry.destination,
        payer: entry.payer.to_string(),
        amount: entry.amount.to_decimal_string(),
        currency: entry.amount.currency().to_string(),
        cap: entry.cap.to_decimal_string(),
        reason: entry.reason.map(|reason| reason.to_string()),
        about: entry.about.map(|about| about.to_string()),
        at: entry.at.to_string(),
        cycle: entry.cycle.to_string(),
        proof,
        hold,
        recall: entry.evidence.recall.map(|recall| recall.to_string()),
    }
}

impl Operations {
    pub(super) async fn entries(&self, after: Option<u64>) -> Result<EntriesView, OpsError> {
        let page = self.desk.ledger.list(Filter::default(), after, PAGE_ENTRIES).await?;
        let (book, next) = (self.desk.ledger.book().clone(), page.next);
        let entries = page.entries;
        self.desk
            .store
            .read(move |txn| {
                let mut views = Vec::with_capacity(entries.len());
                for listed in entries.clone() {
                    let hold = book.story(txn, &listed.entry.transfer)?.open_hold().map(why_held);
                    views.push(entry_view(listed, hold));
                }
                Ok(EntriesView { entries: views, next })
            })
            .await
    }

    pub(super) async fn balances(&self) -> Result<BalancesView, OpsError> {
        let entries = self.desk.ledger.tree_head().await?.size;
        let balances = match self.desk.ledger.balances().await {
            Ok(balances) => balances,
            Err(BooksError::Rule(LedgerError::Unbalanced(currency))) => {
                tracing::error!(%currency, "debits and credits differ");
                return Ok(BalancesView {
                    entries,
                    accounts: Vec::new(),
                    totals: Vec::new(),
                    balanced: false,
                });
            }
            Err(fault) => return Err(fault.into()),
        };
        let totals = balances.trial_balance().map_err(BooksError::from)?;
        let accounts = balances.iter().map(|(account, balance)| AccountView {
            holder: account.holder.to_string(),
            amounts: amounts(account.currency, balance),
        });
        Ok(BalancesView {
            entries,
            accounts: accounts.collect(),
            totals: totals.iter().map(|row| amounts(row.currency, &row.total)).collect(),
            balanced: true,
        })
    }

    pub(super) async fn mail(&self) -> Result<MailView, OpsError> {
        let keys = self.desk.keys.clone();
        self.desk
            .store
            .read(move |txn| {
                let mut mail = MailView { waiting: std::collections::BTreeMap::new(), dead: Vec::new() };
                for row in registry::hospitals(txn, &keys)? {
                    let letters = routing::waiting(txn, &keys, &row.hospital, None, SCAN_MAX_CELLS)?.len();
                    mail.waiting.insert(row.hospital, letters);
                }
                mail.dead = routing::dead_letters(txn, &keys)?
                    .into_iter()
                    .map(|dead| DeadView {
                        hospital: dead.hospital,
                        transfer: dead.transfer.to_string(),
                        kind: dead.kind.to_string(),
                        code: dead.code.to_string(),
                        at: dead.at.to_string(),
                    })
                    .collect();
                Ok(mail)
            })
            .await
    }

    /// The directory was verified up to the root when it was loaded.
    pub(super) async fn check(&self) -> Result<CheckView, OpsError> {
        let store = self.desk.store.check(|_| {}).await?;
        let repairs = self.desk.store.repairs().await?;
        let damaged = store.counts.damaged;
        let mut view = CheckView {
            sound: damaged == 0,
            cells: store.counts.cells,
            damaged,
            entries: 0,
            transfers: 0,
            open_reservations: 0,
            open_holds: 0,
            held_since: None,
            log_root: None,
            directory_version: self.desk.current().version(),
            repairs: repairs.iter().map(ToString::to_string).collect(),
            faults: store
                .damaged_keys
                .iter()
                .map(|key| format!("the value under key {} does not open", hex::encode(key)))
                .collect(),
        };
        match self.desk.ledger.check().await {
            Ok(books) => {
                view.sound = view.sound && books.is_sound();
                view.entries = books.entries;
                view.transfers = books.transfers;
                view.open_reservations = books.open_reservations;
                view.open_holds = books.open_holds;
                view.held_since = books.held_since.map(|since| since.to_string());
                view.log_root = books.root.map(|root| root.to_string());
                view.faults.extend(books.faults.into_iter().map(|fault| match fault.sequence {
                    Some(sequence) => format!("entry {sequence}: {}", fault.what),
                    None => fault.what,
                }));
            }
            Err(fault) => {
                view.sound = false;
                view.faults.push(fault.to_string());
            }
        }
        Ok(view)
    }
}
