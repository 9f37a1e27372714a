//! `plan`: shows what `apply` would do.

use ::cli::Exit;

use crate::cli::PlanOptions;
use crate::input;
use crate::session::Session;

/// The verb.
pub fn run(options: &PlanOptions, mut session: Session<'_>) -> anyhow::Result<Exit> {
    let request = &options.request;
    let input = input::read(request.file.as_deref(), request.config.as_deref())?;
    let (plan, _) = session.plan(&input, request.rules(false))?;
    session.warn(&plan);
    session.refuse(&plan)?;
    session.print_plan(&plan)?;
    Ok(Exit::Done)
}
