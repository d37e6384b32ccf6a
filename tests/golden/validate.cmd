# planned times kept by threads: the numbers are those of a clock, all else is the same each time
cat >"$scratch/stages.yaml" <<'END'
pass_times: {forward: 10ms, backward_input: 10ms, backward_weight: 5ms, send: 1ms}
parallel: {pipeline_model_parallel_size: 2}
schedule: {name: zb-h1, num_microbatches: 4}
END
cd "$scratch"
tandem validate stages.yaml --engine analytic --device paced --steps 3 --pace 4 --no-plots >out
sed -E 's/[-+]?[0-9]+\.[0-9]+/#/g; s/  +/ /g; s/[123] \(median.*\)/N (median)/; s/^ [123] #/ N #/' out | grep -v ' N '
find runs | LC_ALL=C sort
