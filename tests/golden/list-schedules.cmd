# not the whole list: a new schedule is one new file and no other edit
tandem list schedules | tr -s ' ' | grep -E '^(schedules| 1f1b | gpipe | zb-h1 | forward-only )'
