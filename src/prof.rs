#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::disallowed_methods, clippy::print_stderr)]
use std::collections::BTreeMap; use std::sync::Mutex; use std::time::Instant;
pub static P: Mutex<BTreeMap<String,(u64,u64,u64)>> = Mutex::new(BTreeMap::new());
pub fn add(n:&str, t:Instant){ let d=t.elapsed().as_micros() as u64; let mut p=P.lock().unwrap(); let e=p.entry(n.to_owned()).or_default(); e.0+=1; e.1+=d; e.2=e.2.max(d); }
pub fn now()->Instant{Instant::now()}
pub fn told(){ for (n,(c,t,m)) in P.lock().unwrap().iter(){ eprintln!("  {n:40} {c:6} x {:8.3} ms = {:8.1} ms  max {:.1} ms", *t as f64/1000.0/ *c as f64, *t as f64/1000.0, *m as f64/1000.0);} }
