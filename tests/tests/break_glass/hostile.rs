//! A hostile hospital.
use anyhow::Result;
use handover_scenarios::world::World;

pub(crate) fn all(_: &mut World) -> Result<()> {
    Ok(())
}
