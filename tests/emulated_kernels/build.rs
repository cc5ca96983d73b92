//! Compiles the kernels' own source as C++.

const KERNELS: &str = "../../src/detector/engine/cuda/kernels";

fn main() {
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-changed=src");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(KERNELS)
        .file("src/emulated.cpp")
        .file("src/team.cpp")
        .opt_level(2)
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-Wno-unknown-pragmas")
        // Candle's own loops are compiled without it too: sums have one order everywhere.
        .flag_if_supported("-ffp-contract=off")
        .compile("emulated_kernels");
}
