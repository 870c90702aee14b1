//! What stands on a page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A page of Markdown.
pub(crate) struct Page {
    /// From the repository's root.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A command that a page tells people to type.
pub(crate) struct Command {
    /// Page and line.
    pub(crate) at: String,
    pub(crate) line: String,
}

/// A table, by the first of its columns.
pub(crate) struct Table {
    pub(crate) at: usize,
    pub(crate) title: String,
    pub(crate) rows: Vec<String>,
}

/// All pages for people.
pub(crate) fn pages() -> Vec<Page> {
    let named = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "runs/README.md", "executors/python/README.md"]
        .map(str::to_owned);
    let docs = files_in(&root().join("docs")).into_iter().map(|file| format!("docs/{}", name(&file)));
    named.into_iter().chain(docs).map(|path| Page::read(&path)).collect()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Commands that recipes and examples tell people of in their comments.
pub(crate) fn commands_of_comments() -> Vec<Command> {
    let mut commands = Vec::new();
    for (directory, comment) in [("runs", "#"), ("psbench/examples", "//!")] {
        for file in files_in(&root().join(directory)).iter().filter(|file| file.is_file()) {
            let at = format!("{directory}/{}", name(file));
            let text = fs::read_to_string(file).unwrap();
            let lines =
                text.lines().filter_map(|line| line.strip_prefix(comment)).map(|line| line.trim().trim_matches('`'));
            let is_command = |line: &&str| line.starts_with("psbench ") || line.starts_with("cargo ");
            commands.extend(lines.filter(is_command).map(|line| Command { at: at.clone(), line: line.to_owned() }));
        }
    }
    commands
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// A line of it, for people.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }

    /// Each line with its number and the language of the block that it is in, absent in prose; fences left out.
    fn lines(&self) -> Vec<(usize, &str, Option<&str>)> {
        let mut language = None;
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(self.text.lines()) {
            match line.trim_start().strip_prefix("```") {
                Some(fence) => language = if language.is_some() { None } else { Some(fence.trim()) },
                None => lines.push((number, line, language)),
            }
        }
        assert!(language.is_none(), "{}: a block without its end", self.path);
        lines
    }

    /// What is no block, by line.
    pub(crate) fn prose(&self) -> Vec<(usize, String)> {
        let prose = self.lines().into_iter().filter(|(_, _, language)| language.is_none());
        prose.map(|(at, line, _)| (at, line.to_owned())).collect()
    }

    /// The commands of its blocks marked `sh`, those over several lines as one.
    pub(crate) fn commands(&self) -> Vec<Command> {
        let mut commands: Vec<Command> = Vec::new();
        let mut goes_on = false;
        for (at, line, language) in self.lines() {
            if language != Some("sh") {
                assert!(!goes_on, "{}: a command without its end", self.at(at));
                continue;
            }
            let part = line.trim().strip_prefix("$ ").unwrap_or(line.trim());
            let (part, more) = part.strip_suffix('\\').map_or((part, false), |part| (part.trim_end(), true));
            match commands.last_mut().filter(|_| goes_on) {
                Some(command) => command.line = format!("{} {part}", command.line),
                None => commands.push(Command { at: self.at(at), line: part.to_owned() }),
            }
            goes_on = more;
        }
        commands.retain(|command| !command.line.is_empty() && !command.line.starts_with('#'));
        commands
    }

    /// Where its links lead, outside of this repository left out.
    pub(crate) fn links(&self) -> Vec<String> {
        let prose: Vec<_> = self.prose().into_iter().map(|(_, line)| line).collect();
        let prose = prose.join("\n");
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.filter(|target| !target.starts_with("http")).map(str::to_owned).collect()
    }

    /// Whether a link leads somewhere.
    pub(crate) fn follow(&self, link: &str) -> Result<(), String> {
        let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
        let beside = Path::new(&self.path).parent().unwrap();
        let target = if file.is_empty() { root().join(&self.path) } else { root().join(beside).join(file) };
        if !target.exists() {
            return Err(format!("{}: the link {link} leads nowhere", self.path));
        }
        let Some(anchor) = anchor else { return Ok(()) };
        let target = Self { path: link.to_owned(), text: fs::read_to_string(target).unwrap() };
        let found = target.anchors().iter().any(|known| known == anchor);
        if found { Ok(()) } else { Err(format!("{}: {link} has no such heading", self.path)) }
    }

    /// Those of its headings, as GitHub makes them.
    fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let headings =
            self.lines().into_iter().filter(|(_, line, language)| language.is_none() && line.starts_with('#'));
        let anchor = |(_, line, _): (usize, &str, Option<&str>)| {
            let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
            let text: String = line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect();
            let anchor = text.replace(' ', "-");
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        };
        headings.map(anchor).collect()
    }

    /// Its tables, by what stands as code in their first columns.
    pub(crate) fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        let mut inside = false;
        for (at, line) in self.prose() {
            let first = line.strip_prefix('|').and_then(|rest| rest.split('|').next());
            match first.map(code) {
                None => inside = false,
                Some(cell) if !inside => {
                    inside = true;
                    tables.push(Table { at, title: cell.concat(), rows: Vec::new() });
                }
                Some(cell) => tables.last_mut().unwrap().rows.extend(cell),
            }
        }
        tables
    }
}

/// What stands between backticks.
pub(crate) fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether this names something of the repository.
pub(crate) fn is_path(text: &str) -> bool {
    const FOLDERS: [&str; 9] =
        ["psbench/", "executors/", "connectors/", "docs/", "examples/", "fuzz/", ".ci/", "tests/", "runs/"];
    let placeholder =
        |text: &str| text.contains(['*', '…', ' ', '<']) || text.contains("NAME") || text.contains("YYYY");
    FOLDERS.iter().any(|folder| text.starts_with(folder)) && !placeholder(text)
}

/// All that prints messages, with lines of texts joined and format strings as they are.
pub(crate) fn sources() -> Vec<String> {
    let mut sources = Vec::new();
    for folder in [
        "psbench/src",
        "executors/src",
        "connectors/src",
        "connectors/scistream/src",
        "executors/python/psbench_executors",
    ] {
        read_below(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 300, "only {} sources were found", sources.len());
    sources
}

fn read_below(directory: &Path, sources: &mut Vec<String>) {
    for file in files_in(directory) {
        if file.is_dir() {
            read_below(&file, sources);
        } else if file.extension().is_some_and(|kind| kind == "rs" || kind == "py") {
            sources.push(joined(&fs::read_to_string(file).unwrap()));
        }
    }
}

/// A string over several lines as one.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start()).replace("\\\"", "\"")
}
