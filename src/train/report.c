/*
 * report.c - `thaw report`: reads a run back, has its best weights judged, and writes the page and
 * TensorBoard's events beside it; or gives the text for a terminal.
 */
#include "train/train.h"

#include "train/report.h"

#include <string.h>

#define MISTAKES_PAGE 12
#define MISTAKES_TEXT 5

static const thaw_run_options no_options;

static thaw_status fail_memory(void)
{
    return thaw_fail(THAW_E_NOMEM, "out of memory for the report of a run");
}

/* The best weights on the run's own data. Data that have moved since are no reason for no report:
 * it says so instead. */
static thaw_status judge(report_data *r, const char *run, const thaw_run_options *options, int most)
{
    char *best = os_path(run, "best"), *path = os_path(run, "recipe.toml");
    thaw_recipe *recipe = NULL;
    job *j = NULL;
    thaw_status status;

    if (!best || !path) {
        status = fail_memory();
        goto done;
    }
    status = thaw_recipe_load(&recipe, path, NULL, 0);
    if (status == THAW_OK && recipe->format == DATA_CALLBACK) {
        r->judgement.why_not = "the samples came from a program";
        goto done;
    }
    if (status == THAW_OK)
        status = job_open(&j, recipe, options, os_kind_of(best) == OS_FOLDER ? best : NULL,
                          JOB_DATA | JOB_EXEC);
    if (status == THAW_OK)
        status = report_judge(r, j, most);
    if (status != THAW_OK && status != THAW_E_NOMEM) {
        r->judgement.n_classes = 0;
        r->judgement.why_not = region_strdup(r->region, thaw_error());
        status = THAW_OK;
    }
done:
    job_close(j);
    thaw_recipe_destroy(recipe);
    thaw__free(best);
    thaw__free(path);
    return status;
}

static thaw_status write_tensorboard(const report_data *r, const char *run)
{
    char *folder = os_path(run, "tensorboard");
    text events = TEXT_INIT;
    thaw_status status;

    if (!folder) {
        status = fail_memory();
        goto done;
    }
    THAW_TRY(report_tensorboard(&events, r));
    THAW_TRY(os_make_folders(folder));
    THAW_TRY(
        os_replace_file(folder, "events.out.tfevents.0000000000.thaw", events.data, events.length));
done:
    thaw__free(folder);
    text_done(&events);
    return status;
}

static thaw_status write_page(text *said, const report_data *r, const outlook *o, const char *run)
{
    text page = TEXT_INIT;
    thaw_status status;

    THAW_TRY(report_html(&page, r, o));
    THAW_TRY(os_replace_file(run, "report.html", page.data, page.length));
    THAW_TRY(write_tensorboard(r, run));
    text_addf(said, "%s/report.html\n%s/tensorboard\n", run, run);
    if (r->broken > 0)
        text_addf(said, "%lld lines of events.jsonl are no events and were left out\n",
                  (long long)r->broken);
    if (r->judgement.why_not)
        text_addf(said, "not judged: %s\n", r->judgement.why_not);
done:
    text_done(&page);
    return status;
}

thaw_status thaw_report(char **out, const char *run, const thaw_run_options *options, bool as_text)
{
    report_data *r = NULL;
    outlook *o = NULL;
    text said = TEXT_INIT;
    thaw_status status;

    options = options ? options : &no_options;
    THAW_TRY(report_read(&r, run));
    THAW_TRY(judge(r, run, options, as_text ? MISTAKES_TEXT : MISTAKES_PAGE));
    if (as_text) {
        THAW_TRY(report_text(&said, r));
    } else {
        THAW_TRY(outlook_open(&o, run));
        THAW_TRY(write_page(&said, r, o, run));
    }
    THAW_TRY(text_take(out, &said, "the report of a run"));
done:
    text_done(&said);
    outlook_close(o);
    report_destroy(r);
    return status;
}
