/* fabric.c: what the files in fabrics/ have in common: grades. */
#include "fabric.h"

tdm_grade tdm_fields_grade(const tdm_field *fields, const void *record)
{
    tdm_grade worst = TDM_GRADE_MEASURED;
    for (const tdm_field *field = fields; field->key; field++) {
        const unsigned char *at = (const unsigned char *)record + field->offset;
        tdm_grade grade = TDM_GRADE_MEASURED;
        if (field->type == TDM_FIELD_MAP)
            grade = tdm_fields_grade(field->fields, at);
        else if (field->type == TDM_FIELD_VALUE && ((const tdm_value *)(const void *)at)->source)
            grade = ((const tdm_value *)(const void *)at)->grade;
        if (grade > worst)
            worst = grade;
    }
    return worst;
}
