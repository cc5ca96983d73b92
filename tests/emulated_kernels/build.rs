//! Compiles the kernels' own source as C++.
//!
//! `VAEANOMALY_SANITIZE` = `address`, `undefined` or `thread` adds that sanitizer; `make sanitize-cuda` sets it.

const KERNELS: &str = "../../src/detector/engine/cuda/kernels";

fn main() {
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-env-changed=VAEANOMALY_SANITIZE");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .include(KERNELS)
        .file("src/emulated.cpp")
        .opt_level(2)
        .warnings(true)
        .extra_warnings(true)
        .flag_if_supported("-Wno-unknown-pragmas")
        // Candle's own loops are compiled without it too: sums have one order everywhere.
        .flag_if_supported("-ffp-contract=off");
    if let Ok(sanitizer) = std::env::var("VAEANOMALY_SANITIZE") {
        build
            .flag(format!("-fsanitize={sanitizer}"))
            .flag("-fno-omit-frame-pointer")
            .flag("-fno-sanitize-recover=all")
            .debug(true);
        let library = match sanitizer.as_str() {
            "address" => "asan",
            "thread" => {
                build.define("EMULATED_THREADS", "3");
                "tsan"
            }
            _ => "ubsan",
        };
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    build.compile("emulated_kernels");
}
