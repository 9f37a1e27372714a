//! `plan`: shows what `apply` would do.

use ::cli::Exit;

use crate::cli::PlanOptions;
use crate::session::{Session, WholePlan};

/// The verb.
pub fn run(options: &PlanOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    let request = &options.request;
    let input = session.read_input(request)?;
    let WholePlan { settings, profiles, .. } = session.plan(&input, request.rules(false))?;
    session.warn(&settings, &profiles);
    session.refuse(&settings.objections, &profiles)?;
    session.print_plan(&settings, &profiles)?;
    Ok(Exit::Done)
}
