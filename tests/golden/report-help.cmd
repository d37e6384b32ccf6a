# exit 2
tandem report --help
cd "$scratch"
tandem report . || :
tandem report runs/a runs/b || :
tandem report nowhere --format html
