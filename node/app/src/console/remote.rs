//! The commands of remote links and of patients' wallets.

use handover_cli::CliError;
use handover_core::PatientRef;

use super::Console;
use crate::args::LinkRemoteTask;
use crate::operations::{Operation, RemoteLinkShown, RemoteLinksListed, Unlinked, WalletsListed};
use crate::show;

impl Console {
    pub(super) async fn link_remote(&self, task: LinkRemoteTask) -> Result<(), CliError> {
        let operation = match task {
            LinkRemoteTask::List => {
                let listed: RemoteLinksListed = self.call(Operation::RemoteLinkList, "").await?;
                return self
                    .output
                    .emit("handover/remote-links/1", &listed, |out| show::remote_links(out, &listed));
            }
            LinkRemoteTask::Show { id } => Operation::RemoteLinkShow { id },
            LinkRemoteTask::Vouch { id } => Operation::RemoteLinkVouch { id },
            LinkRemoteTask::Confirm { id, patient } => Operation::RemoteLinkConfirm { id, patient },
            LinkRemoteTask::Refuse { id, reason } => Operation::RemoteLinkRefuse { id, reason },
        };
        let shown: RemoteLinkShown = self.call(operation, "").await?;
        self.output.emit("handover/remote-link/1", &shown, |out| show::remote_link(out, &shown))
    }

    pub(super) async fn wallets(&self, patient: String) -> Result<(), CliError> {
        let listed: WalletsListed = self.call(Operation::PatientWallets { patient }, "").await?;
        self.output.emit("handover/patient-wallets/1", &listed, |out| show::wallets(out, &listed))
    }

    pub(super) async fn unlink(&self, patient: String, wallet: PatientRef) -> Result<(), CliError> {
        let gone: Unlinked = self.call(Operation::PatientUnlink { patient, wallet }, "").await?;
        self.output.emit("handover/patient-unlinked/1", &gone, |out| show::unlinked(out, &gone))
    }
}
