//! The evaluation program end to end: its figures on a rendered street must be out of reach of a broken model, and its
//! errors must name mistakes on the command line and in the labels.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use street_scene::record::{Recorder, Settings};
use street_scene::scene::{Config, Kind, Labels, Scene};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evaluate"));
    command.env("RUST_BACKTRACE", "0");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Renders a street of `config` at ten frames per second into `folder`: `street.mp4`, `labels.csv`, `events.csv`
/// and `boxes.csv`.
fn render(folder: &Path, config: &Config) {
    const FPS: i32 = 10;
    gst::init().unwrap();
    let mut scene = Scene::new(config).unwrap();
    let labels = Labels::new(&scene, f64::from(FPS));
    let settings = Settings {
        file: folder.join("street.mp4"),
        width: config.width,
        height: config.height,
        fps: gst::Fraction::new(FPS, 1),
        bitrate: 200,
    };
    let mut recorder = Recorder::new(&settings).unwrap();
    for frame in 0..labels.frames.len() {
        recorder
            .push(scene.render(frame as f64 / f64::from(FPS)))
            .unwrap();
    }
    recorder.finish().unwrap();
    std::fs::write(folder.join("labels.csv"), labels.frames_csv("street")).unwrap();
    std::fs::write(folder.join("events.csv"), labels.events_csv("street")).unwrap();
    std::fs::write(folder.join("boxes.csv"), labels.boxes_csv("street")).unwrap();
}

/// Two seconds of an empty street, small, with labels.
fn short_clip() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        width: 160,
        height: 96,
        events: 0,
        lead_in: 2.0,
        duration: Some(2.0),
        ..Config::default()
    };
    render(folder.path(), &config);
    folder
}

/// `evaluate` on all clips of `folder`, without the slow parts.
fn evaluate(folder: &Path) -> Command {
    let mut command = program();
    command
        .arg("--clips")
        .arg(folder.join("*.mp4"))
        .args(["--no-baselines", "--no-bytes"]);
    command
}

/// Standard error of a run that must fail.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeds");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn finds_the_anomalies_of_a_street_and_reports_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        width: 240,
        height: 136,
        seed: 3,
        lead_in: 40.0,
        events: 3,
        kinds: vec![Kind::Cyclist],
        spacing: 5.0,
        ..Config::default()
    };
    render(folder.path(), &config);
    let (figures, report) = (
        folder.path().join("figures.json"),
        folder.path().join("report.html"),
    );
    let mut command = program();
    command.arg("--clips").arg(folder.path().join("*.mp4"));
    command.arg("--labels").arg(folder.path().join("labels.csv"));
    command.args(["--skip", "200", "--seeds", "1"]);
    command.arg("--accept").arg(folder.path().join("events.csv"));
    command.arg("--boxes").arg(folder.path().join("boxes.csv"));
    command.arg("--json").arg(&figures).arg("--report").arg(&report);
    let output = run(&mut command);

    let figures = json(&figures);
    let number = |name: &str| {
        figures[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name} in {figures}"))
    };
    assert!(number("auroc") > 0.9, "AUROC {}", number("auroc"));
    assert_eq!(figures["events_detected"], figures["events"]);
    assert_eq!(figures["tracks_touched"], figures["tracks"]);
    for (name, least) in [
        ("strongest_region_overlaps_share", 0.9),
        ("mean_iou", 0.35),
        ("rbdc", 0.5),
        ("tbdc", 0.9),
        ("map_auroc", 0.85),
        ("map_aupro", 0.7),
    ] {
        assert!(number(name) > least, "{name} {}", number(name));
    }
    assert_eq!(figures["events"], 3);
    assert!(number("bytes_kept_share") < 1.0 && number("bytes_kept_share") > 0.0);
    for name in [
        "average_precision",
        "eer",
        "precision",
        "recall",
        "f1",
        "best_f1",
        "best_threshold",
        "frames_per_second",
    ] {
        assert!(number(name).is_finite(), "{name}");
    }
    let baseline = figures["baselines"]["frame difference"].as_f64().unwrap();
    assert!(
        number("auroc") > baseline,
        "AUROC {} against {baseline} of the frame difference",
        number("auroc")
    );
    assert!(figures["baselines"]["online autoencoder"].is_number());

    let [acceptance] = &figures["acceptances"].as_array().unwrap()[..] else {
        panic!("{figures}")
    };
    assert_eq!(acceptance["kind"], "cyclist");
    let later = |pass: &str, name: &str| acceptance[pass]["same_kind"][name].as_u64().unwrap();
    let (without, with) = (later("without", "flagged"), later("with", "flagged"));
    assert_eq!(later("with", "events"), 2);
    assert!(
        3 * with < without,
        "{with} frames flagged, {without} without acceptance"
    );

    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("<h2>This was normal</h2>"));
    assert!(report.matches("<svg").count() >= 5 && report.contains("data:image/jpeg;base64,"));
    let elsewhere = ["src=\"http", "href=", "url("];
    assert!(
        elsewhere.iter().all(|link| !report.contains(link)),
        "the report is not self-contained"
    );
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        table.contains("events found") && table.contains("3 of 3"),
        "{table}"
    );
}

#[test]
fn unlabelled_video_has_scores_but_no_figures_of_merit() {
    let folder = short_clip();
    let figures = folder.path().join("figures.json");
    run(evaluate(folder.path()).arg("--json").arg(&figures));
    let figures = json(&figures);
    assert_eq!(figures["frames"], 20);
    assert!(figures["auroc"].is_null() && figures["events"].is_null());
}

#[test]
fn applies_disturbances_to_the_frames() {
    let folder = short_clip();
    let figures = folder.path().join("figures.json");
    let disturbances = [
        "noise:10",
        "brightness:0.6@0.5",
        "jitter:1",
        "occlude:0.1@1",
        "jpeg:40",
        "fps:0.5",
    ];
    let mut command = evaluate(folder.path());
    command
        .arg("--labels")
        .arg(folder.path().join("labels.csv"))
        .arg("--json")
        .arg(&figures);
    for disturbance in disturbances {
        command.args(["--perturb", disturbance]);
    }
    run(&mut command);
    assert_eq!(
        json(&figures)["frames"],
        10,
        "half of 20 frames are evaluated against their own labels"
    );
}

#[test]
fn what_a_mask_ignores_counts_for_no_method() {
    let folder = short_clip();
    // Labels of both classes, so that there are figures to compare.
    let rows: String = (0..20)
        .map(|i| format!("street,{i},{}\n", u8::from(i >= 10)))
        .collect();
    let labels = folder.path().join("made-up.csv");
    std::fs::write(&labels, format!("clip,frame,label\n{rows}")).unwrap();
    let mask = folder.path().join("mask.pgm");
    // The lower left quarter.
    std::fs::write(&mask, "P2 2 2 1 1 1 0 1").unwrap();

    let report = folder.path().join("report.html");
    let figures = |options: &[&str]| {
        let file = folder.path().join("figures.json");
        let mut command = program();
        command.arg("--clips").arg(folder.path().join("*.mp4"));
        command.args(["--no-bytes", "--ablate", "--labels"]).arg(&labels);
        command.arg("--json").arg(&file).arg("--report").arg(&report);
        run(command.args(options));
        let all = json(&file);
        let mut methods =
            ["auroc", "average_precision", "baselines", "ablations"].map(|name| all[name].clone());
        // motioncells measures pauses of motion with the system's clock: its figures depend on the load of the machine.
        let of_motion_cells = methods[2]
            .as_object_mut()
            .expect("an object")
            .remove("motioncells");
        let auroc = of_motion_cells.map_or(0.0, |auroc| auroc.as_f64().expect("a number"));
        (methods, auroc, all)
    };
    let masked = ["--mask", mask.to_str().unwrap()];
    let polygon = ["--ignore-regions", "0,0.5 0.5,0.5 0.5,1 0,1"];
    let covered = ["--perturb", "occlude:0.2@1"];
    let (plain, _, all) = figures(&[]);
    assert_eq!(all["ignored_share"], 0.0);
    assert_ne!(
        plain,
        figures(&covered).0,
        "the cover is seen where nothing is ignored"
    );
    let (clean, by_motion_cells, all) = figures(&masked);
    assert!((all["ignored_share"].as_f64().unwrap() - 0.25).abs() < 0.01);
    assert_eq!(all["settings"]["mask"], masked[1]);
    let (disturbed, with_cover, _) = figures(&[masked, covered].concat());
    assert_eq!(clean, disturbed);
    assert!(
        (by_motion_cells - with_cover).abs() < 0.1,
        "motioncells: {by_motion_cells} without the cover, {with_cover} with it"
    );
    let page = std::fs::read_to_string(&report).unwrap();
    assert!(page.contains("25.0 % of the frame were ignored"));
    assert!(page.contains("its raw scores equal those of the element"));
    let (by_polygon, _, all) = figures(&[polygon, covered].concat());
    assert_eq!(clean, by_polygon);
    assert_eq!(all["settings"]["ignore_regions"], polygon[1]);
}

#[test]
fn errors_in_labels_name_clip_and_frame() {
    let folder = short_clip();
    let labels = folder.path().join("labels.csv");
    let good = std::fs::read_to_string(&labels).unwrap();
    let cases = [
        (
            good.replace("street,7,0\n", ""),
            "no label for clip street frame 7",
        ),
        (
            good.replace("street,19,0\n", ""),
            "no label for clip street frame 19",
        ),
        (
            good.replace("street,7,0", "street,7,yes"),
            "clip street frame 7: label must be 0 or 1, got 'yes'",
        ),
        (
            good.replace("street,", "avenue,"),
            "no label for clip street frame 0",
        ),
        (good.clone() + "street,20,0\n", "clip street ends after 20 frames"),
    ];
    for (text, expected) in cases {
        std::fs::write(&labels, text).unwrap();
        let error = failure(evaluate(folder.path()).arg("--labels").arg(&labels));
        assert!(error.contains(expected), "'{expected}' is not in: {error}");
    }
}

#[test]
fn errors_in_options_name_value_and_range() {
    let folder = short_clip();
    let cases: [(&[&str], &str); 9] = [
        (
            &["--perturb", "blur:3"],
            "must be one of noise, brightness, jitter, occlude, fps and jpeg, got 'blur'",
        ),
        (&["--perturb", "fps:7"], "value must be 0.01..=1, got '7'"),
        (&["--set", "speed=3"], "vaeanomaly has no such property"),
        (&["--set", "latent-dim=0"], "latent-dim must be 1..=512, got 0"),
        (&["--set", "threshold=much"], "does not accept the value 'much'"),
        (
            &["--set", "mask-location=x"],
            "--set mask-location: use --mask instead",
        ),
        (&["--mask", "/no/such/mask"], "--mask /no/such/mask"),
        (
            &["--ignore-regions", "0,0 1,1"],
            "ignore-regions must be polygons",
        ),
        (
            &["--warm", "/nowhere/*.mp4"],
            "--warm '/nowhere/*.mp4' matches no file",
        ),
    ];
    for (options, expected) in cases {
        let error = failure(evaluate(folder.path()).args(options));
        assert!(error.contains(expected), "'{expected}' is not in: {error}");
    }
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, "no video").unwrap();
    let error = failure(evaluate(folder.path()).args(["--clips", broken.to_str().unwrap()]));
    assert!(error.contains("broken.mp4"), "{error}");
}

/// The row of a camera in the table of `evaluate cameras`, without the name.
fn row<'a>(table: &'a str, camera: &str) -> Vec<&'a str> {
    let line = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(camera));
    let line = line.unwrap_or_else(|| panic!("{camera} is missing in\n{table}"));
    line.split_whitespace().skip(1).collect()
}

#[test]
fn a_folder_of_cameras_gives_one_table() {
    let data = tempfile::tempdir().unwrap();
    let config = Config {
        width: 240,
        height: 136,
        seed: 3,
        lead_in: 30.0,
        events: 2,
        kinds: vec![Kind::Cyclist],
        spacing: 5.0,
        ..Config::default()
    };
    // One camera with all its frames; one with two clips that are cameras of their own, of which only some frames count.
    let street = data.path().join("street");
    std::fs::create_dir_all(street.join("eval")).unwrap();
    render(&street, &config);
    std::fs::rename(street.join("street.mp4"), street.join("eval/street.mp4")).unwrap();
    let pair = data.path().join("pair");
    for (part, name) in [("warm", "one"), ("warm", "two"), ("eval", "one"), ("eval", "two")] {
        std::fs::create_dir_all(pair.join(part)).unwrap();
        std::fs::copy(
            short_clip().path().join("street.mp4"),
            pair.join(part).join(format!("{name}.mp4")),
        )
        .unwrap();
    }
    std::fs::write(
        pair.join("labels.csv"),
        "clip,frame,label\none,3,0\none,4,0\ntwo,19,0\n",
    )
    .unwrap();

    let output = run(program().arg("cameras").arg(data.path()).args(["--seeds", "1,2"]));
    let table = String::from_utf8(output.stdout).unwrap();
    let frames = std::fs::read_to_string(street.join("labels.csv"))
        .unwrap()
        .lines()
        .count()
        - 1;
    let street = row(&table, "street");
    assert_eq!(street[0], frames.to_string(), "{table}");
    let auroc: f64 = street[2].parse().unwrap();
    assert!(auroc > 0.85, "{table}");
    assert_eq!(row(&table, "pair/one")[..3], ["2", "0", "-"], "{table}");
    assert_eq!(row(&table, "pair/two")[0], "1", "{table}");

    let cold = run(program()
        .arg("cameras")
        .arg(data.path())
        .args(["--only", "street", "--cold", "300"]));
    let table = String::from_utf8(cold.stdout).unwrap();
    assert_eq!(row(&table, "street")[0], (frames - 300).to_string(), "{table}");
    assert!(!table.contains("pair"), "{table}");

    let error = failure(program().arg("cameras").arg(data.path().join("street/eval")));
    assert!(error.contains("has no labels.csv"), "{error}");
    let error = failure(
        program()
            .arg("cameras")
            .arg(data.path())
            .args(["--only", "cellar"]),
    );
    assert!(error.contains("no camera has such a name"), "{error}");
}
