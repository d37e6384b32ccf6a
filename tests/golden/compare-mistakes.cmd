# exit 2
cd "$scratch"
echo '{"figures": 1}' >numbers.json
echo '{"figures": {}, "waterfall": {}, "schema_version": 1}' >empty.json
echo '{"figures": {"step_time_s": 1}, "waterfall": {}, "schema_version": 2}' >newer.json
echo '{"figures": {"step_time_s": 1}, "waterfall": {}, "schema_version": 1}' >bare.json
echo '{"figures": ' >cut.json
mkdir nothing spoilt
cp bare.json spoilt/figures.json
echo 'rank,stage' >spoilt/ops.csv
mkdir spoilt2
cp bare.json spoilt2/figures.json
printf 'rank,stage,stream,pass,microbatch,chunk,layer,op,kind,start_us,end_us,bytes,flops\n0,0,compute,F,0,0,0,a,gem,0,1,0,0\n' >spoilt2/ops.csv
tandem compare missing numbers.json
tandem compare empty.json newer.json
tandem compare cut.json nothing
tandem compare spoilt spoilt2
tandem compare bare.json bare.json --tolerance 5
tandem compare bare.json bare.json --tolerance x
tandem compare bare.json bare.json --tolerance -1%
tandem compare bare.json bare.json --figures step_time_s
tandem compare bare.json bare.json --tolerance 1% --figures step_time
tandem compare bare.json bare.json --tolerance 1% --figures frobnicate
tandem compare bare.json bare.json --tolerance 1% --figures step_time_s,mfu
