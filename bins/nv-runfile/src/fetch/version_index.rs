//! The version that `latest` or a branch stands for.

use ::cli::{Exit, Failure, Say, fail};
use host::Machine;
use nvidia::compare_versions;
use runfile::{KnownFile, is_version};

use crate::cli::Fetch;
use crate::fetch::locations::{MAIN, US, xfree86};
use crate::fetch::request::file_path;
use crate::fetch::stream::{StreamError, small, words};

/// latest.txt has 60 bytes, a list of all versions about 100 KB.
const MOST: usize = 4 << 20;

/// The lists of versions that servers have.
pub struct VersionIndex<'a> {
    pub fetch: &'a Fetch,
    pub arch: &'a str,
    pub say: &'a Say,
}

impl VersionIndex<'_> {
    fn bases(&self) -> Vec<String> {
        match self.fetch.mirrors.is_empty() {
            true => vec![US.into(), MAIN.into()],
            false => self.fetch.mirrors.iter().map(|m| m.trim_end_matches('/').into()).collect(),
        }
    }

    /// NVIDIA's latest version: not the highest number, but the newest that NVIDIA
    /// recommends.
    pub fn latest(&self) -> Result<String, Failure> {
        if self.fetch.offline {
            return Err(fail(Exit::Usage, "'latest' needs the network")
                .hint("name a version, or run without --offline"));
        }
        let mut reasons = Vec::new();
        for base in self.bases() {
            for dir in xfree86(self.arch) {
                let url = format!("{base}/{dir}/latest.txt");
                match self.text(&url)? {
                    Ok(text) => match latest_of(&text) {
                        Some(version) => return Ok(version),
                        None => reasons.push(format!("{url}: does not have a version")),
                    },
                    Err(why) => reasons.push(format!("{url}: {why}")),
                }
            }
        }
        let message = format!("the latest version is not known: {}", reasons.join("; "));
        Err(fail(Exit::System, message).hint("name a version"))
    }

    /// The newest version of a branch: of those that servers list, otherwise of those
    /// in the table of known installers.
    pub fn branch(&self, branch: &str, table: &[KnownFile]) -> Result<String, Failure> {
        let known = table.iter().filter(|row| row.arch == self.arch).map(|row| row.version.clone());
        let mut found: Vec<String> = known.collect();
        let mut listed = false;
        if !self.fetch.offline {
            'servers: for base in self.bases() {
                for dir in xfree86(self.arch) {
                    let url = format!("{base}/{dir}/");
                    match self.listing(&url)? {
                        Ok(versions) if versions.iter().any(|v| in_branch(v, branch)) => {
                            listed = true;
                            found.extend(versions);
                            break 'servers;
                        }
                        Ok(_) => {
                            self.say.detail(&format!("{url}: has no version of branch {branch}"))
                        }
                        Err(why) => self.say.detail(&format!("{url}: {why}")),
                    }
                }
            }
        }
        found.retain(|version| in_branch(version, branch));
        let newest = found.into_iter().max_by(|a, b| compare_versions(a, b));
        let Some(newest) = newest else {
            let message = format!("no version of branch {branch} is known for {}", self.arch);
            return Err(fail(Exit::System, message).hint("name a version"));
        };
        if !listed && !self.fetch.offline {
            self.say.warn(&format!(
                "no server lists branch {branch}; {newest} is the newest version known to this tool"
            ));
        }
        Ok(newest)
    }

    fn listing(&self, url: &str) -> Result<Result<Vec<String>, String>, Failure> {
        if let Some(path) = file_path(url) {
            let names = Machine::new(None)?.list(path);
            return Ok(names
                .map_err(|error| error.to_string())
                .map(|names| names.into_iter().filter(|name| is_version(name)).collect()));
        }
        Ok(self.text(url)?.map(|page| versions_in(&page)))
    }

    fn text(&self, url: &str) -> Result<Result<String, String>, Failure> {
        match small(url, self.fetch.patience, MOST) {
            Ok(text) => Ok(Ok(text)),
            Err(StreamError::Interrupted) => Err(fail(Exit::System, "interrupted")),
            Err(StreamError::Trouble(trouble)) => Ok(Err(words(trouble))),
        }
    }
}

fn in_branch(version: &str, branch: &str) -> bool {
    version.split('.').next() == Some(branch)
}

/// The version of `352.21 352.21/NVIDIA-Linux-x86_64-352.21.run`, one line.
fn latest_of(text: &str) -> Option<String> {
    let mut words = text.split_ascii_whitespace();
    let (version, path) = (words.next()?, words.next()?);
    let fits = is_version(version)
        && path.starts_with(&format!("{version}/NVIDIA-Linux-"))
        && path.ends_with(&format!("-{version}.run"));
    (fits && words.next().is_none()).then(|| version.to_string())
}

/// The versions that a page links to: `href='550.163.01/'`, with either kind of
/// quotes.
fn versions_in(page: &str) -> Vec<String> {
    let links = page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        rest[1..].split(quote).next()
    });
    let names = links.filter_map(|link| link.trim_end_matches('/').rsplit('/').next());
    names.filter(|name| is_version(name)).map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_the_first_word_of_one_line() {
        assert_eq!(
            latest_of("352.21 352.21/NVIDIA-Linux-x86_64-352.21.run\n").as_deref(),
            Some("352.21")
        );
        for bad in [
            "",
            "352.21",
            "<html> 352.21",
            "352.21 353.00/NVIDIA-Linux-x86_64-353.00.run",
            "352.21 352.21/NVIDIA-Linux-x86_64-352.21.run more",
            "../x ../x/NVIDIA-Linux-x86_64-../x.run",
        ] {
            assert_eq!(latest_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn listings_are_read_with_both_kinds_of_quotes() {
        let page = "<a href='../'>..</a><a href='550.54.14/'>x</a><a href=\"/XFree86/Linux-x86_64/550.163.01/\">\
                    <a href='latest.txt'><a href=570.1/><a href='é'>";
        assert_eq!(versions_in(page), ["550.54.14", "550.163.01"]);
        assert!(versions_in("href=é href=").is_empty());
        assert!(in_branch("550.1", "550") && !in_branch("5501.1", "550"));
    }
}
