# exit 2
tandem plan scenarios/no-such.yaml
