//! The store is moved from one engine to the other, and back; so is what lies in folders. No process may have it open.

use handover_cli::{CliError, Steps};
use handover_core::Code;
use handover_store::{
    BlobPlace, CellKey, EngineName, Place, Store, StoreError, accept_loss, copy, copy_blobs, undo,
};
use serde_json::json;

use super::context::{Context, runtime};
use super::rejoin::declare;
use crate::keys::IndexKeys;

fn stored(fault: StoreError) -> CliError {
    CliError::new(fault.code(), fault.to_string())
}

/// The configured store, the place of the engine that is asked for, and the key of both.
fn places(context: &Context, other: Option<EngineName>) -> Result<(Place, Option<Place>, CellKey), CliError> {
    let config = context.config()?;
    let here = config.store.engine;
    if other == Some(here) {
        let why = format!("the configuration says that the store is on {here} already");
        return Err(CliError::new(Code::UsageInvalid, why));
    }
    let keys = IndexKeys::open(&config.data, &context.passphrase("Passphrase of the index's keys: ")?)?;
    let other = other.map(|engine| config.store_place(engine)).transpose().map_err(stored)?;
    Ok((config.store_place(here).map_err(stored)?, other, keys.cell_key()))
}

/// Copies the store to another engine and verifies the copy.
pub(super) fn copy_store(context: &Context, to: EngineName) -> Result<(), CliError> {
    let (from, target, key) = places(context, Some(to))?;
    let target = target.ok_or(Code::Internal)?;
    let mut steps = Steps::new(context.output);
    let copied = copy(&from, &target, &key, |step, done, total| steps.show(step.label(), done, total));
    let copied = runtime()?.block_on(copied).map_err(stored);
    steps.finish();
    let moved = copied?;
    let shown = json!({
        "from": from.to_string(), "to": target.to_string(), "engine": to.to_string(), "cells": moved.cells,
        "bytes": moved.bytes, "digest": hex::encode(moved.digest),
    });
    context.output.emit("handover/store-moved/1", &shown, |out| {
        writeln!(out, "{} cells, {} bytes: copied to {target} and compared", moved.cells, moved.bytes)?;
        writeln!(out, "What lies in {from} was left as it is, and does not open any more.")?;
        writeln!(out, "Next: set engine = \"{to}\" under [store] in the configuration, then start.")
    })
}

/// Copies what lies in folders to the other place.
pub(super) fn copy_content(context: &Context, to: BlobPlace) -> Result<(), CliError> {
    let config = context.config()?;
    if config.blobs.place == to {
        let why = format!("the configuration says that blobs lie in the {to} already");
        return Err(CliError::new(Code::UsageInvalid, why));
    }
    let (place, _, key) = places(context, None)?;
    let mut steps = Steps::new(context.output);
    let copied = async {
        let store = Store::open(&place, &key).await?;
        let copied = async {
            if config.store.engine == EngineName::Postgres {
                store.check_folder(&config.shared, &config.data).await?;
            }
            copy_blobs(&store, &config.blobs, to, &config.shared, |done| steps.show("Copy", done, None)).await
        };
        let copied = copied.await;
        store.close().await;
        copied
    };
    let copied = runtime()?.block_on(copied).map_err(stored);
    steps.finish();
    let copied = copied?;
    context
        .output
        .emit("handover/blobs-copied/1", &copied, |out| copied.tell(out, "; their sources have them."))
}

/// Lets a store open again that was moved.
pub(super) fn undo_copy(
    context: &Context,
    copy_is_lost: bool,
    loss_is_accepted: bool,
) -> Result<(), CliError> {
    let here = context.config()?.store.engine;
    let has_copy = !copy_is_lost && !loss_is_accepted;
    let (from, copy, key) = places(context, has_copy.then_some(here.other()))?;
    let undone = async {
        if loss_is_accepted {
            accept_loss(&from, &key).await?;
        } else {
            undo(&from, copy.as_ref(), &key).await?;
        }
        if has_copy { Ok(()) } else { declare(&from, &key, context.edge.clock.now()).await }
    };
    runtime()?.block_on(undone).map_err(stored)?;
    let shown = json!({ "store": from.to_string(), "engine": here.to_string() });
    context.output.emit("handover/store-reopened/1", &shown, |out| {
        writeln!(out, "The store in {from} opens again; leave engine = \"{here}\" as it is.")?;
        if has_copy {
            return Ok(());
        }
        writeln!(out, "What it has lost it asks the hospitals for when it starts.")
    })
}
