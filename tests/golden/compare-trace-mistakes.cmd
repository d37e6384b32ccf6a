# exit 2
cd "$scratch"
mkdir twice none cut
one='{"ph": "X", "cat": "kernel", "name": "sgemm", "ts": 1, "dur": 2, "pid": 0, "tid": 7}'
echo "{\"distributedInfo\": {\"rank\": 3}, \"traceEvents\": [$one]}" >twice/a.json
cp twice/a.json twice/b.json
echo '{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 2}]}' >none/rank0.json
printf '{"traceEvents": [\n%s,\n{"ph": "X", "cat": "kern' "$one" >cut/rank0.json
echo "{\"traceEvents\": [$one, {\"ph\": \"X\", \"cat\": \"kernel\", \"name\": \"a\", \"ts\": 1e99, \"dur\": 2}]}" >far.json
echo "{\"traceEvents\": [$one, {\"ph\": \"X\", \"cat\": \"kernel\", \"name\": \"a\", \"ts\": 1, \"dur\": -2}]}" >back.json
echo '[1, 2]' >numbers.json
echo "[$one" | gzip -c | head -c 40 >cut.json.gz
echo 'no trace' | gzip -c >text.json.gz
cat >rules.yaml <<'END'
classes:
  - {class: gem, name: "*gemm*"}
  - {class: attention}
  - {class: norm, name: []}
  - {class: frobnicate, name: {a: b}}
groups:
  - {group: xp, name: "*X*"}
END
printf 'classes:\n  - {class: gemm, nam: "*gemm*"}\n' >rules2.yaml
tandem compare twice none
tandem compare cut far.json
tandem compare back.json numbers.json
tandem compare cut.json.gz text.json.gz
tandem compare twice/a.json twice/a.json --rules rules.yaml
tandem compare twice/a.json twice/a.json --rules rules2.yaml
tandem compare twice/a.json twice/a.json --rules no.yaml
