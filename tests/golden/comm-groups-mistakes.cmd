# exit 2
for spec in "" "8" "/" "/0" "%x" "%0" "/8;" "0-3;3-5" "0,0;1" "0-16" "3-0" "0-3;" "0-3,;4-7" "0;1-3" "/1" "/15" "%16" \
    "a-b" "0-99999999999999999999" "1-3 5"; do
    tandem comm dgx-2x8-h100 --collective all-reduce --groups "$spec" && echo "accepted: $spec"
done
printf 'size_bytes,time_us\n8,1\n' >"$scratch/log.csv"
tandem comm dgx-2x8-h100 --collective all-reduce --groups /8 --launch fit --against "$scratch/log.csv"
