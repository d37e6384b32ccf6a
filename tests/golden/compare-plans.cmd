# different plans: all but the ops; the second result holds several steps
tandem sim zb-1.5b -q --engine analytic --out-dir "$scratch/a"
tandem sim zb-1.5b -q --engine analytic --out-dir "$scratch/b" --set schedule.name=1f1b
cd "$scratch"
sed 's/"steps": \[/&{"step_time_s": 1.44}, {"step_time_s": 1.48}, 1.47, {"step_time_s": 1.450247, "more": {}},/' b/figures.json >b.json
tandem compare a b.json --format md
tandem compare a b --format csv | head -n 20
