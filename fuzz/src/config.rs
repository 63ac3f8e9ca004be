//! What an operator writes: the configuration, and that of another gateway.

use doorward::config::import::of_oauth2_proxy;
use doorward::config::{Sources, check, effective};
use std::path::{Path, PathBuf};

const LONGEST: usize = 16 << 10;

fn checked(text: &str, env: Vec<(String, String)>) -> Result<String, Vec<String>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let sources = Sources { file: Path::new("fuzz.yaml"), text, env };
    match check(&sources) {
        Ok(checked) => Ok(effective::yaml(&checked.settings.file, &checked.written)),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

/// A configuration is read or refused with its problems; what is printed of a good one is YAML again. An input is the text,
/// and after a zero byte variables of the environment, `NAME=value` in each line.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, env) = text.split_once('\0').unwrap_or((text, ""));
    // No file of this machine is read.
    if text.len() > LONGEST || text.contains("file") {
        return;
    }
    let env = env.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into()));
    let env: Vec<(String, String)> =
        env.filter(|(name, _): &(String, String)| !name.to_ascii_lowercase().contains("file")).collect();
    match checked(text, env.clone()) {
        Ok(printed) => {
            let again = checked(&printed, env).err().unwrap_or_default();
            let broken =
                again.iter().find(|problem| problem.contains("is not YAML") || problem.contains("second time"));
            assert!(broken.is_none(), "{broken:?} of\n{printed}");
        }
        Err(problems) => assert!(!problems.is_empty(), "refused without a word"),
    }
}

/// What is printed of another gateway's configuration is YAML that this one reads, or refuses by key. An input is TOML,
/// alpha YAML, or an environment file, by its first byte.
pub fn import(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    if text.len() > LONGEST || text.contains("file") {
        return;
    }
    let name = ["a.cfg", "a.yaml", "a.env"][usize::from(kind % 3)];
    if let Ok(imported) = of_oauth2_proxy(&[(PathBuf::from(name), text.to_owned())]) {
        let told = checked(&imported.yaml, Vec::new()).err().unwrap_or_default();
        let broken = told.iter().find(|problem| problem.contains("is not YAML") || problem.contains("second time"));
        assert!(broken.is_none(), "{broken:?} of\n{}", imported.yaml);
    }
}
