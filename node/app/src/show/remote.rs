//! Remote links and patients' wallets, as people read them.

use std::io;

use super::Out;
use crate::operations::{RemoteLinkShown, RemoteLinksListed, Unlinked, WalletsListed};

pub(crate) fn remote_links(out: Out<'_>, listed: &RemoteLinksListed) -> io::Result<()> {
    if listed.requests.is_empty() {
        writeln!(out, "No request for a remote link is here.")?;
    }
    listed.requests.iter().try_for_each(|request| remote_link(out, request))
}

pub(crate) fn remote_link(out: Out<'_>, shown: &RemoteLinkShown) -> io::Result<()> {
    let RemoteLinkShown { id, role, old_hospital, new_hospital, state, name, birth_date, .. } = shown;
    writeln!(out, "{id}: {role}, {state}, until {}", shown.expires)?;
    if let Some(reason) = &shown.reason {
        writeln!(out, "  why: {reason}")?;
    }
    writeln!(
        out,
        "  Says to be: {name}, born {birth_date}, number {} at {old_hospital}",
        shown.record_number
    )?;
    writeln!(out, "  Vouching: {new_hospital}")?;
    if let Some(here) = &shown.here {
        writeln!(out, "  Here under that number: {} records", here.records)?;
        for name in &here.names {
            writeln!(out, "    name {}", plain(name))?;
        }
        for date in &here.birth_dates {
            writeln!(out, "    born {}", plain(date))?;
        }
        for contact in &here.contacts {
            writeln!(out, "    contact on file {}", plain(contact))?;
        }
    }
    if let Some(patient) = &shown.patient {
        writeln!(out, "  Patient here: {patient}")?;
    }
    if let (Some(code), Some(until)) = (&shown.link_code, &shown.code_expires) {
        writeln!(out, "  Code for the patient, until {until}: {code}")?;
        writeln!(out, "  Send it to the address or telephone number in your own records of this patient,")?;
        writeln!(out, "  never to one that came with the request. The patient's wallet takes it:")?;
        writeln!(out, "  link --hospital {old_hospital} --code CODE, at {new_hospital}'s node")?;
    }
    let next = match (role.as_str(), state.as_str()) {
        ("to-vouch", "waiting") => "see the identity document, then link-remote vouch, or link-remote refuse",
        ("to-link", "asked") => {
            "link-remote show, then link-remote confirm --patient ID, or link-remote refuse"
        }
        _ => return Ok(()),
    };
    writeln!(out, "  Next: {next}")
}

/// A record's text, for a terminal: without control characters, which could rewrite what stands there.
fn plain(text: &str) -> String {
    text.chars().map(|each| if each.is_control() { '\u{fffd}' } else { each }).collect()
}

pub(crate) fn wallets(out: Out<'_>, listed: &WalletsListed) -> io::Result<()> {
    if listed.wallets.is_empty() {
        writeln!(out, "No wallet is linked to {}.", listed.patient)?;
    }
    listed.wallets.iter().try_for_each(|line| writeln!(out, "{} since {}", line.wallet, line.since))
}

pub(crate) fn unlinked(out: Out<'_>, gone: &Unlinked) -> io::Result<()> {
    let Unlinked { patient, wallet, was_linked } = gone;
    if *was_linked {
        writeln!(out, "{wallet} is no longer linked to {patient}. The records stay.")
    } else {
        writeln!(out, "{wallet} is linked to nobody here.")
    }
}
