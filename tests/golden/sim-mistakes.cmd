# exit 2
s=scenarios/zb-1.5b.yaml
for arguments in '--repeat 0' '--repeat many' '--repeat 3 --sensitivity' '-j 2' '--sensitivity=0' '--sensitivity=fast' \
    '--sensitivity=2000%' '--sensitivity --enforce-targets' '--sensitivity --out-dir x' '--repeat 3 -j 0'; do
    tandem sim $s $arguments
done
tandem sim $s --repeats 3
