//! A transfer's file: its artefacts and the directory that they verify under, for `verify`.

use handover_core::TransferId;
use handover_core::codec::{self, Bytes};
use handover_core::verify::TransferFile;
use handover_dossier::Kind;

use crate::{Exchange, ExchangeError};

impl Exchange {
    /// The file of a transfer, which anybody with the root's public key can verify offline.
    ///
    /// # Errors
    /// `UnknownTransfer`.
    pub async fn transfer_file(&self, transfer: TransferId) -> Result<Vec<u8>, ExchangeError> {
        let view = self.transfer(transfer).await?;
        let federation = self.0.federation()?;
        // The one that came before its consent was never verified; if it was true, it stands there as such too.
        let verified = view.artefacts.into_iter().filter(|(place, _)| place.kind != Kind::EarlyRevocation);
        let artefacts = verified.map(|(_, content)| Bytes(content)).collect();
        Ok(codec::encode(&TransferFile::of(&federation, artefacts)))
    }
}
