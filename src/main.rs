//! The program: arguments in, exit code out.

fn main() {
    std::process::exit(pg_flare::cli::run(std::env::args_os().collect()));
}
