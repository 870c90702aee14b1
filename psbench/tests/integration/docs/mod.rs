//! The pages against the program: what README, CONTRIBUTING and `docs/` tell people to type, and what they say that there is.

mod options;
mod page;
mod place;
mod shell;

use std::collections::BTreeSet;
use std::fs;

use psbench::brokers::BrokerChoice;
use psbench::plan::ExecutorKind;
use psbench_connectors::CONNECTORS;
use scistream::dataserver::DataServerType;

use self::page::{Page, code, pages, root, sources};
use self::place::Place;

/// Fails with all that was found.
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_command_runs_or_parses() {
    let place = Place::new();
    let commands: Vec<_> = pages().iter().flat_map(Page::commands).chain(page::commands_of_comments()).collect();
    assert!(commands.len() > 50, "only {} commands were found", commands.len());
    let problems = commands.iter().filter_map(|command| {
        let problem = shell::check(&command.line, &place).err()?;
        Some(format!("{}: {}\n    {problem}", command.at, command.line))
    });
    assert_none(&problems.collect::<Vec<_>>());
}

#[test]
fn every_option_in_the_text_exists() {
    let known = options::all();
    let problems: Vec<_> = pages()
        .iter()
        .flat_map(|page| page.prose().into_iter().map(move |(at, line)| (page.at(at), line)))
        .flat_map(|(at, line)| options::named_in(&line).into_iter().map(move |option| (at.clone(), option)))
        .filter(|(_, option)| !options::is_known(option, &known))
        .map(|(at, option)| format!("{at}: nothing has the option {option}"))
        .collect();
    assert_none(&problems);
}

#[test]
fn links_and_anchors_lead_somewhere() {
    let pages = pages();
    let links: Vec<_> = pages.iter().flat_map(|page| page.links().into_iter().map(move |link| (page, link))).collect();
    assert!(links.len() > 100, "only {} links were found", links.len());
    let problems: Vec<_> = links.iter().filter_map(|(page, link)| page.follow(link).err()).collect();
    assert_none(&problems);
}

#[test]
fn readme_is_short_and_leads_to_every_page() {
    let pages = pages();
    let readme = pages.iter().find(|page| page.path == "README.md").unwrap();
    let lines = readme.text.lines().count();
    assert!(lines <= 160, "README has {lines} lines");
    let linked: BTreeSet<_> = readme.links().iter().map(|link| link.split('#').next().unwrap().to_owned()).collect();
    let missing = pages.iter().filter(|page| page.path.starts_with("docs/") && !linked.contains(&page.path));
    assert_none(&missing.map(|page| format!("README does not lead to {}", page.path)).collect::<Vec<_>>());
}

#[test]
fn files_that_are_named_are_there() {
    let problems: Vec<_> = pages()
        .iter()
        .flat_map(|page| page.prose().into_iter().map(move |(at, line)| (page.at(at), line)))
        .flat_map(|(at, line)| code(&line).into_iter().map(move |text| (at.clone(), text)).collect::<Vec<_>>())
        .filter(|(_, text)| page::is_path(text) && !root().join(text).exists())
        .map(|(at, text)| format!("{at}: there is no {text}"))
        .collect();
    assert_none(&problems);
}

#[test]
fn the_architecture_names_what_is_there() {
    let page = Page::read("docs/architecture.md");
    let mut looked_for = 0;
    let mut problems = Vec::new();
    for (at, line) in page.prose() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, file, what, ..] = cells[..] else { continue };
        let [file] = &code(file)[..] else { continue };
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for name in code(what) {
            let word = name.trim_end_matches("()").rsplit("::").next().unwrap().to_owned();
            if word.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
                looked_for += 1;
                if !words(&text).any(|other| other == word) {
                    problems.push(format!("{}: {file} has no {name}", page.at(at)));
                }
            }
        }
    }
    assert!(looked_for > 80, "only {looked_for} names were found");
    assert_none(&problems);
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
}

/// What is quoted is a line `> ``message`` ` of its own, with `…` for what changes.
#[test]
fn every_message_stands_in_the_sources() {
    const SHORTEST: usize = 5;
    let page = Page::read("docs/troubleshooting.md");
    let sources = sources();
    let mut quoted = 0;
    let mut problems = Vec::new();
    for (at, line) in page.prose() {
        let Some(message) = line.strip_prefix("> `").and_then(|rest| rest.strip_suffix('`')) else { continue };
        quoted += 1;
        // Of a list, or after a value, only punctuation is left between two places that change.
        let parts: Vec<_> = message.split('…').filter(|part| part.trim().len() >= SHORTEST).collect();
        if parts.is_empty() || !sources.iter().any(|source| parts.iter().all(|part| source.contains(part))) {
            problems.push(format!("{}: no source has {message}", page.at(at)));
        }
    }
    assert!(quoted > 60, "only {quoted} messages were found");
    assert_none(&problems);
}

/// A table whose first column is one of these options lists all that can be chosen by it.
#[test]
fn tables_list_what_there_is() {
    let types: Vec<_> = DataServerType::ALL.iter().map(|kind| kind.as_str()).collect();
    let lists: [(&str, &[&str]); 5] = [
        ("--executor", &ExecutorKind::NAMES),
        ("--stream", &BrokerChoice::NAMES),
        ("--ps-connector", &CONNECTORS.each_ref().map(|connector| connector.name)),
        ("--scistream-type", &types),
        ("--type", &types),
    ];
    let mut problems = Vec::new();
    let mut found = BTreeSet::new();
    for page in pages() {
        for table in page.tables() {
            let Some((option, names)) = lists.iter().find(|(option, _)| table.title == *option) else { continue };
            let names: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let listed: BTreeSet<_> = table.rows.into_iter().collect();
            if listed != names {
                problems.push(format!("{}: {option}: {listed:?} instead of {names:?}", page.at(table.at)));
            }
            found.insert((page.path.clone(), *option));
        }
    }
    for (option, _) in &lists[..4] {
        if !found.contains(&("README.md".to_owned(), *option)) {
            problems.push(format!("README has no table of {option}"));
        }
    }
    assert_none(&problems);
}
