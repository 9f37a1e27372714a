//! Manual pages and completions, made from the tools' own definitions.

use std::fmt::Write as _;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use cli::{EXIT_STATUS, ManText};
use serde_json::Value;

use crate::completion::completion;

/// One tool.
pub struct ToolPages {
    pub command: Command,
    pub text: ManText,
}

const MANUAL: &str = "pve-gpu-tools";
/// Pages about all tools, at the end of every tool's SEE ALSO.
const OVERVIEW: [&str; 3] =
    ["pve-gpu-tools(7)", "pve-gpu-recipes(7)", "pve-gpu-troubleshooting(7)"];

impl ToolPages {
    fn name(&self) -> String {
        self.command.get_name().to_string()
    }

    /// All files of this tool: path below the project, content.
    pub fn files(&self) -> Vec<(String, String)> {
        let name = self.name();
        vec![
            (format!("man/{name}.1"), self.man()),
            (format!("completions/{name}.bash"), completion(&self.command, Shell::Bash)),
            (format!("completions/_{name}"), completion(&self.command, Shell::Zsh)),
            (format!("completions/{name}.fish"), completion(&self.command, Shell::Fish)),
        ]
    }

    /// The manual page: what clap knows, then what only we know.
    pub fn man(&self) -> String {
        let mut command = self.command.clone().disable_help_subcommand(true);
        command.build();
        let mut page = title(&self.name().to_uppercase(), 1, "User Commands");
        let man = Man::new(command.clone());
        page += &part(|out| man.render_name_section(out));
        page += &part(|out| man.render_synopsis_section(out)).replace("subcommands", "COMMAND");
        page += &part(|out| man.render_description_section(out));
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            section(&mut page, &format!("{} {name}", self.name()).to_uppercase());
            let man = Man::new(verb.clone());
            let synopsis = part(|out| man.render_synopsis_section(out));
            page += &body(&synopsis);
            page += ".PP\n";
            page += &body(&part(|out| man.render_description_section(out)));
            page += &body(&own_options(verb, &command));
        }
        page += &part(|out| man.render_options_section(out));
        section(&mut page, "INPUT");
        paragraphs(&mut page, self.text.input);
        section(&mut page, "OUTPUT");
        paragraphs(&mut page, self.text.output);
        self.exit(&mut page);
        section(&mut page, "FILES");
        for (path, what) in self.text.files {
            item(&mut page, &format!("\\fI{}\\fR", escape(path)), what);
        }
        section(&mut page, "NOTES");
        paragraphs(&mut page, self.text.notes);
        for (heading, things) in self.text.lists {
            section(&mut page, heading);
            for (name, text) in *things {
                item(&mut page, &format!("\\fB{}\\fR", escape(name)), text);
            }
        }
        section(&mut page, "EXAMPLES");
        for example in self.text.examples {
            paragraphs(&mut page, example.says);
            let _ = write!(page, ".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", escape(example.command));
        }
        let all: Vec<&str> = self.text.see_also.iter().chain(&OVERVIEW).copied().collect();
        see_also(&mut page, &all);
        page
    }

    fn exit(&self, page: &mut String) {
        section(page, "EXIT STATUS");
        for (code, meaning) in EXIT_STATUS {
            let own = self.text.exit.iter().find(|(c, _)| *c == code).map_or("", |(_, text)| *text);
            item(page, &format!("\\fB{code}\\fR"), format!("{meaning} {own}").trim_end());
        }
        page.push_str(".PP\nWhere several apply the highest wins.\n");
    }
}

/// The first line of a page. Its date is that of the newest entry in debian/changelog rather than
/// the build day, so that a release has the same pages wherever it is built.
fn title(name: &str, section: u8, volume: &str) -> String {
    let (version, date) = (env!("CARGO_PKG_VERSION"), release_date(CHANGELOG));
    format!(".TH {} {section} \"{date}\" \"{MANUAL} {version}\" \"{volume}\"\n", escape(name))
}

const CHANGELOG: &str = include_str!("../../debian/changelog");
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The date of the first entry of a Debian changelog as YYYY-MM-DD. An entry ends with
/// ` -- NAME <MAIL>  Mon, 30 Nov 2026 12:00:00 +0000` (deb-changelog(5)).
fn release_date(changelog: &str) -> String {
    let end = changelog.lines().find(|line| line.starts_with(" -- ")).expect("an entry");
    let (_, date) = end.rsplit_once(", ").expect("a weekday");
    let mut words = date.split(' ');
    let mut word = || words.next().expect("day, month and year");
    let (day, month, year) = (word(), word(), word());
    let month = MONTHS.iter().position(|name| *name == month).expect("a month") + 1;
    format!("{year}-{month:02}-{day:0>2}")
}

/// A verb's options without those that every verb has.
fn own_options(verb: &Command, of: &Command) -> String {
    let global: Vec<&str> = of.get_arguments().map(|arg| arg.get_id().as_str()).collect();
    let hidden = verb
        .get_arguments()
        .map(|arg| arg.get_id().to_string())
        .filter(|id| global.contains(&id.as_str()) || id == "help")
        .fold(verb.clone(), |verb, id| verb.mut_arg(id, |arg| arg.hide(true)));
    part(|out| Man::new(hidden.clone()).render_options_section(out))
}

/// clap_mangen's text of one part, without the preamble it puts before each.
fn part(render: impl Fn(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).expect("a page in memory");
    let text = String::from_utf8(out).expect("UTF-8");
    let preamble = |line: &&str| {
        !line.starts_with(".ie ") && !line.starts_with(".el ") && !line.starts_with(".br")
    };
    let text: String = text.lines().filter(preamble).map(|line| format!("{line}\n")).collect();
    text.replace("\\*(Aq", "\\(aq")
}

/// A part without its heading.
fn body(part: &str) -> String {
    part.lines().filter(|line| !line.starts_with(".SH")).map(|line| format!("{line}\n")).collect()
}

fn section(page: &mut String, name: &str) {
    let _ = writeln!(page, ".SH \"{}\"", escape(name));
}

fn paragraphs(page: &mut String, text: &str) {
    for paragraph in text.split("\n\n") {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        // right behind a heading a paragraph begins by itself
        let heading = page.lines().last().is_some_and(|line| line.starts_with(".SH"));
        let begin = if heading { "" } else { ".PP\n" };
        let _ = writeln!(page, "{begin}{}", escape(&words.join(" ")));
    }
}

fn item(page: &mut String, tag: &str, text: &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let _ = write!(page, ".TP\n{tag}\n{}\n", escape(&words.join(" ")));
}

fn see_also(page: &mut String, pages: &[&str]) {
    section(page, "SEE ALSO");
    let links: Vec<String> = pages
        .iter()
        .map(|page| {
            let (name, rest) = page.split_once('(').unwrap_or((page, ""));
            format!("\\fB{}\\fR({rest}", escape(name))
        })
        .collect();
    let _ = writeln!(page, "{}", links.join(", "));
}

/// Text as roff takes it: hyphens that can be copied, nothing that begins a request.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

/// pve-gpu-records(5), from the schemas.
pub fn records_page() -> (String, String) {
    let mut page = title("PVE-GPU-RECORDS", 5, "File Formats");
    let _ = write!(
        page,
        ".SH NAME\npve\\-gpu\\-records \\- JSON lines that the tools of {} print and read\n",
        escape(MANUAL)
    );
    section(&mut page, "DESCRIPTION");
    paragraphs(
        &mut page,
        "The tools print and read records: one JSON object on each line, in UTF-8, with type as the \
         first key. Unknown values are null, and their key is kept. Fields are only ever added: a \
         reader ignores keys that it does not know. Sizes are in bytes; PCI addresses are complete and \
         in lower case (0000:41:00.0); ids are hexadecimal strings in lower case with 0x.\n\n\
         Where something can be done about a change, a check or an error, its record says so twice: \
         hint in words, for people, and commands as a list of argument vectors, for programs. Each \
         vector is a program and its arguments, to be run without a shell, in the given order. \
         commands is empty where only a person can act. To print the commands for a shell: \
         jq -r '.commands[] | @sh'.\n\n\
         A tool that reads records reads all of them before it changes anything. A line that is not a \
         record is an error, reported with its line number; a line has at most 1 MiB, a stream 256 MiB. \
         Records of types that the tool does not use are ignored and counted on standard error. If no \
         usable record is left, that is an error: an empty pipe means that an earlier tool failed. An \
         error record stops the tool before any change. So does a stream that begins and does not end \
         (type stream): the tool that printed it was killed, or head cut it off. Records without such \
         ends are taken as made by hand. A pipeline therefore fails closed without pipefail.\n\n\
         The package installs a JSON Schema for each type.",
    );
    for schema in record::SCHEMAS {
        let value: Value = serde_json::from_str(schema.text).expect(schema.name);
        section(&mut page, schema.name);
        paragraphs(&mut page, value["description"].as_str().unwrap_or_default());
        fields(&mut page, &value, "");
    }
    see_also(
        &mut page,
        &[
            "gpu-iommu-groups(1)",
            "gpu-vfio-bind(1)",
            "lxc-gpu-conf(1)",
            "nv-runfile(1)",
            "nv-version-check(1)",
            "vgpu-profile-set(1)",
            "jq(1)",
        ],
    );
    ("man/pve-gpu-records.5".into(), page)
}

fn fields(page: &mut String, object: &Value, prefix: &str) {
    let Some(properties) = object["properties"].as_object() else { return };
    for (name, field) in properties {
        if prefix.is_empty() && name == "type" {
            continue;
        }
        let full = format!("{prefix}{name}");
        let description = field["description"].as_str().unwrap_or_default();
        let tag = format!("\\fB{}\\fR ({})", escape(&full), escape(&kind(field)));
        item(page, &tag, if description.is_empty() { "See above." } else { description });
        fields(page, field, &format!("{full}."));
        fields(page, &field["items"], &format!("{full}[]."));
        for variant in field["oneOf"].as_array().into_iter().flatten() {
            fields(page, variant, &format!("{full}."));
        }
    }
}

/// The type of a field, for the page.
fn kind(field: &Value) -> String {
    let one = |value: &Value| value.as_str().unwrap_or_default().to_string();
    if let Some(values) = field["enum"].as_array() {
        let words: Vec<String> =
            values.iter().map(|v| v.as_str().map_or("null".into(), str::to_string)).collect();
        return words.join(" | ");
    }
    if !field["const"].is_null() {
        return one(&field["const"]);
    }
    if field["oneOf"].is_array() {
        return "object or null".into();
    }
    match &field["type"] {
        Value::Array(types) => types.iter().map(one).collect::<Vec<_>>().join(" or "),
        other => one(other),
    }
}
