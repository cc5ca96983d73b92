mod args; mod labels; mod clips; mod perturb; mod core_pass; mod baseline; mod autoencoder;
#[allow(dead_code)]
mod stream;
use clap::Parser;
use gstvaeanomaly::metrics::*;
fn main() -> anyhow::Result<()> {
    gst::init()?;
    let args = args::Args::parse();
    let clips = args.resolve_clips()?;
    let labels = labels::Labels::read(args.labels.as_ref().unwrap())?;
    labels.check_clips(&clips)?;
    for &seed in &args.seeds {
        let (mut s, mut l, mut flagged) = (vec![], vec![], vec![]);
        let config = gstvaeanomaly::detector::Config { seed, ..Default::default() };
        let mut bl = if args.no_baselines { vec![] } else { baseline::all(seed)? };
        let mut bs: Vec<Vec<f64>> = vec![vec![]; bl.len()];
        let mut skip = args.skip;
        let t = std::time::Instant::now();
        let mut n = 0;
        core_pass::run(clips::Frames::new(&clips, &args.perturb), &config, &Default::default(), |f, p, _| {
            n += 1;
            let g = if bl.is_empty() { Default::default() } else { baseline::Grey::of(f)? };
            let b: Vec<f64> = bl.iter_mut().map(|b| b.score(&g).unwrap()).collect();
            if clips[f.clip].counted {
                if skip > 0 { skip -= 1; return Ok(()); }
                s.push(p.raw_score);
                l.push(labels.get(&clips[f.clip].name, f.index)?);
                flagged.push(p.raw_score > 1.75);
                for (v, b) in bs.iter_mut().zip(b) { v.push(b); }
            }
            Ok(())
        })?;
        println!("seed {seed}: {} frames auroc {:?} f1 {:?} far {:?} fps {}", s.len(), Ranking::new(&s, &l)?.auroc(),
            Confusion::new(&flagged, &l)?.f1(), Confusion::new(&flagged, &l)?.false_alarm_share(), n as f64 / t.elapsed().as_secs_f64());
        for (b, v) in bl.iter().zip(&bs) { println!("{} {:?}", b.name(), Ranking::new(v, &l)?.auroc()); }
    }
    Ok(())
}
