//! An index's books as an insider would leave them: all that the real ones hold, and whatever else is wanted, in a tree
//! that is sound in itself and signed with the index's own key.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use handover_core::artefact::Verified;
use handover_core::artefact::books::{LedgerPage, PageLine};
use handover_core::codec;
use handover_core::ledger::merkle::{self, Position};
use handover_core::ledger::{Entry, EntryKind, entry_id};
use handover_core::message::{BooksAnswer, BooksQuestion, OpenedEntry};
use handover_core::{Amount, HospitalId, Timestamp, TransferId};
use handover_index::ledger::{Filter, Ledger};
use handover_scenarios::world::World;
use handover_seal::SigningKey;
use handover_store::Store;

use super::{none, now};
use crate::index_data;

const PAGE: usize = 500;

/// Entries with the salts of their commitments.
#[derive(Clone, Default)]
pub struct FalseBooks {
    lines: Vec<(Entry, [u8; 32])>,
}

impl FalseBooks {
    /// Those of a world's index, which must not run.
    ///
    /// # Errors
    /// Its store does not open.
    pub fn of(world: &World) -> Result<Self> {
        let keys = index_data::keys_of(world)?;
        let path = index_data::folder(world).join("store");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = Store::sled(&path, &keys.cell_key())?;
            let ledger = Ledger::new(store.clone());
            let (mut lines, mut after) = (Vec::new(), None);
            loop {
                let page = ledger.list(Filter::default(), after, PAGE).await?;
                for listed in page.entries {
                    lines.push((listed.entry, ledger.inclusion(listed.sequence).await?.salt));
                }
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            drop(ledger);
            store.close().await;
            Ok(Self { lines })
        })
    }

    /// The entry that makes a transfer's fee due.
    ///
    /// # Errors
    /// There is none.
    pub fn posted(&self, transfer: TransferId) -> Result<Entry> {
        let is_it = |entry: &&Entry| entry.transfer == transfer && entry.proof().is_some();
        self.lines.iter().map(|(entry, _)| entry).find(is_it).cloned().context("it is not posted")
    }

    /// Books one more, under the identifier that belongs to it.
    pub fn book(&mut self, mut entry: Entry) {
        entry.id = entry_id(&entry.source, &entry.destination, &entry.transfer, entry.kind, entry.sequence);
        let salt = [u8::try_from(self.lines.len() % 251).unwrap_or_default(); 32];
        self.lines.push((entry, salt));
    }

    /// Books a transfer's fee a second time, on the same evidence.
    ///
    /// # Errors
    /// It is not posted once.
    pub fn post_again(&mut self, transfer: TransferId) -> Result<()> {
        let posted = self.posted(transfer)?;
        self.book(Entry { kind: EntryKind::PostDirect, about: None, at: now(), ..posted });
        Ok(())
    }

    /// Writes another amount over a fee that stands.
    pub fn rewrite(&mut self, transfer: TransferId, more_minor: i64) {
        for (entry, _) in self.lines.iter_mut().filter(|(entry, _)| entry.transfer == transfer) {
            let more = |minor: i64, currency| Amount::from_minor(minor + more_minor, currency);
            entry.amount = more(entry.amount.minor(), entry.amount.currency());
            entry.cap = more(entry.cap.minor(), entry.cap.currency());
            entry.postings.iter_mut().for_each(|it| it.amount_minor += more_minor);
        }
    }

    /// Takes the newest entry away.
    pub fn cut(&mut self) {
        self.lines.pop();
    }

    /// What it says to a hospital.
    #[must_use]
    pub fn answer(&self, question: &BooksQuestion, hospital: &HospitalId, signing: &SigningKey) -> Vec<u8> {
        codec::encode(&self.answer_at(question, hospital, signing, now()))
    }

    /// The same, at a time.
    #[must_use]
    pub fn answer_at(
        &self,
        question: &BooksQuestion,
        hospital: &HospitalId,
        signing: &SigningKey,
        at: Timestamp,
    ) -> BooksAnswer {
        let mut nodes: BTreeMap<Position, handover_core::Digest> = BTreeMap::new();
        let mut commitments = Vec::new();
        for (number, (entry, salt)) in (0_u64..).zip(&self.lines) {
            let commitment = merkle::commitment(salt, &codec::encode(entry));
            let leaf = merkle::leaf_hash(commitment.as_bytes());
            let added = merkle::append(number, leaf, &mut |at| nodes.get(&at).copied().ok_or(()));
            nodes.extend(added.unwrap_or_default());
            commitments.push(commitment);
        }
        let size = self.lines.len() as u64;
        let mut read = |at: Position| nodes.get(&at).copied().ok_or(());
        let from = question.from.min(size);
        let numbered = (0_u64..).zip(self.lines.iter().zip(&commitments));
        let wanted: Vec<_> = numbered
            .filter(|(number, _)| *number >= from)
            .filter(|(_, ((entry, _), _))| [&entry.source, &entry.destination].contains(&hospital))
            .collect();
        let consistency =
            merkle::consistency(question.seen, size, &mut read).ok().flatten().unwrap_or_default();
        let (mut lines, mut opened) = (Vec::new(), Vec::new());
        for (sequence, ((entry, salt), commitment)) in wanted {
            let path = merkle::inclusion(size, sequence, &mut read).ok().flatten().unwrap_or_default();
            lines.push(PageLine {
                sequence,
                commitment: *commitment,
                path: LedgerPage::hashes(&path),
                extensions: none(),
            });
            let entry = codec::encode(entry).into();
            opened.push(OpenedEntry {
                sequence,
                salt: *salt,
                entry,
                path,
                order: None,
                mark: None,
                extensions: none(),
            });
        }
        let page = LedgerPage {
            hospital: hospital.clone(),
            seen: question.seen,
            from,
            until: size,
            lines,
            size,
            root: merkle::root(size, &mut read).unwrap_or_else(|()| handover_core::Digest::sha256(&[])),
            issued: at,
            consistency: LedgerPage::hashes(&consistency),
            extensions: none(),
        };
        BooksAnswer {
            page: Verified::sign(page, signing).envelope().to_vec().into(),
            consistency,
            opened,
            kept: None,
            extensions: none(),
        }
    }
}
