# A site from a log of nccl-tests: the block alone, then a copy of the topology file with it, which tandem comm takes;
# fitted again, the block is replaced.
tandem comm dgx-h100 --gpus 8 --collective all-gather --sizes 128:1GiB --launch 14us --format csv | cut -d, -f1,3 | sed 1,1s/.*/size_bytes,time_us/ >"$scratch/log.csv"
tandem comm dgx-h100 --gpus 8 --collective all-gather --sizes 1MiB --launch 14us
cd "$scratch" && cp "$OLDPWD/topologies/dgx-h100.yaml" here.yaml && sed -i 's/^device: .*/device: h100-80g/' here.yaml
tandem fit log.csv --topology ./here.yaml --collective all-gather --gpus 8 --output fitted.yaml | grep -v 'half of it' |
    sed 's/  *[0-9.e+]* to [0-9.e+]* /  LOW to HIGH /'
diff here.yaml fitted.yaml | sed 's/^> *//' | head -5
tandem fit log.csv --topology ./fitted.yaml --collective all-gather --gpus 8 --output fitted.yaml | tail -1
grep -c '^site:' fitted.yaml
tandem comm ./fitted.yaml --gpus 8 --collective all-gather --against log.csv --tolerance 3% | tail -4
ls
