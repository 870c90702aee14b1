//! What a path of two gateways carries, and what that costs: each of our types beside a direct connection and the reference's HAProxy
//! and stunnel, each gateway, source and sink a process of its own, on loopback.
//!
//! `cargo bench -p scistream --bench paths -- --types copy,splice --sizes 1K,64K,1M --repeat 5 --seconds 1`
//!
//! A plain TCP source writes samples of one size, without pause, for some seconds; a plain sink reads them one by one. The paths take
//! turns, so that whatever else the machine does meets all of them: compare the ratios of one run, and nothing else. What is printed is
//! in [`table`]. Two scenes, each a set of paths in one network namespace:
//!
//! - `system`: the one that the benchmark runs in, with its default congestion control;
//! - `reno`: one that the benchmark makes, where `reno` is the default, so that every socket of every path uses it. Needs root.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark has nobody to tell its errors")]

mod options;
mod path;
mod reference;
mod roles;
mod scene;
mod table;

use std::env::args;

use self::options::Options;
use self::path::Path;
use self::scene::Scene;
use self::table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = args().skip(1).filter(|argument| argument != "--bench").collect();
    match roles::Role::of(&arguments) {
        Some(role) => role.play(),
        None => measure(&Options::parse(&arguments)),
    }
}

fn measure(options: &Options) {
    let scenes: Vec<Scene> = options.scenes.iter().map(|name| Scene::open(name)).collect();
    let mut paths: Vec<Path<'_>> = scenes
        .iter()
        .flat_map(|scene| options.types.iter().map(move |kind| (scene, kind)))
        .map(|(scene, kind)| Path::open(scene, kind, options))
        .collect();
    let mut table = Table::default();
    for round in 0..options.repeat {
        for size in &options.sizes {
            // Whoever comes after an expensive path is not always the same.
            let turn = round % paths.len();
            for index in (turn..paths.len()).chain(0..turn) {
                let path = &mut paths[index];
                let measured = path.run(*size, options.seconds);
                table.add(path.scene(), path.kind(), *size, measured);
            }
        }
    }
    table.print();
}
