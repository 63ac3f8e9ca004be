//! The manual page: one for all commands.

use clap::Command;
use clap_mangen::Man;
use std::io::{Result, Write};

/// The page as roff; each command has a section of its own.
pub(super) fn page(mut line: Command) -> Result<String> {
    line.build(); // gives the commands their whole names
    let whole = Man::new(line.clone());
    let mut page = Vec::new();
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    commands(&line, &mut page)?;
    whole.render_version_section(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn commands(parent: &Command, page: &mut Vec<u8>) -> Result<()> {
    for command in parent.get_subcommands().filter(|command| command.get_name() != "help") {
        if command.has_subcommands() {
            commands(command, page)?;
            continue;
        }
        let man = Man::new(command.clone());
        let mut own = Vec::new();
        man.render_synopsis_section(&mut own)?;
        man.render_description_section(&mut own)?;
        man.render_options_section(&mut own)?;
        let own = String::from_utf8_lossy(&own).replace(".SH ", ".SS ");
        write!(page, ".SH \"{}\"\n{own}", command.get_bin_name().unwrap_or_default())?;
    }
    Ok(())
}
