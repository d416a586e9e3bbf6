/*
 * test_report.c - what a run did, read back, drawn, and written for people and for TensorBoard.
 */
#include "train/report.h"
#include "train/small_runs.h"

#include <unistd.h>
#include <zlib.h>

#define RECIPE                                                                                     \
    SMALL_MLP SMALL_DATA "[train]\nexecutor = 'ref'\n"                                             \
                         "[[phase]]\nname = '<head> & \"co\"'\nsteps = 4\nfreeze = ['backbone']\n" \
                         "[[phase]]\nname = 'all'\nsteps = 6\nunfreeze = ['backbone']\n"           \
                         "lr_coefficients = { backbone = 0.1 }\n"

/* ----------------------------------------------------------------------------------------------
 * reading */

static report_data *read_lines_of(const char *folder, const char *lines)
{
    report_data *r = NULL;
    char path[512];

    check_write_file(small_path(path, folder, "events.jsonl"), lines, strlen(lines));
    CHECK_OK(report_read(&r, folder));
    return r;
}

/* A line that a crash cut off, one that is no JSON, one that is no event: counted, not fatal. */
static void test_broken_lines(void **state)
{
    report_data *r = read_lines_of(
        *state, "{\"event\": \"run\", \"phase\": 1, \"text\": \"began\", \"baseline\": 0.5}\n"
                "{\"event\": \"phase\", \"phase\": 1, \"phase_name\": \"a\", \"iteration\": 0}\n"
                "nonsense\n[1, 2]\n"
                "{\"event\": \"step\", \"phase\": 1, \"iteration\": 1, \"loss\": null}\n"
                "{\"event\": \"step\", \"phase\": -7, \"iteration\": 2, \"loss\": 1.5}\n"
                "{\"event\": \"step\", \"phase\": 999999999, \"iteration\": 3, \"loss\": 1.5}\n"
                "{\"event\": \"st");

    CHECK_INT(r->broken, 3);
    CHECK_INT(r->n_steps, 3);
    CHECK_INT(r->n_phases, 1);
    CHECK(isnan(r->step[0].loss) && r->step[1].loss == 1.5);
    CHECK_STR(r->phase[0].name, "a");
    report_destroy(r);
}

/* Many steps become few points with the same mean; the last one stays where it was. */
static void test_thinning(void **state)
{
    enum { STEPS = 10000 };
    text lines = TEXT_INIT;
    report_data *r;
    double sum = 0, end;

    for (int i = 1; i <= STEPS; i++)
        text_addf(&lines, "{\"event\": \"step\", \"phase\": 1, \"iteration\": %d, \"loss\": %d}\n",
                  i, i % 7);
    CHECK(!lines.failed);
    r = read_lines_of(*state, lines.data);
    text_done(&lines);
    CHECK(r->n_steps <= REPORT_STEPS && r->n_steps > REPORT_STEPS / 4);
    for (size_t i = 0; i < r->n_steps; i++)
        sum += r->step[i].loss;
    end = r->step[r->n_steps - 1].iteration;
    CHECK_NEAR(sum / (double)r->n_steps, 3.0, 0.01, 0);
    CHECK_NEAR(end, STEPS, 0, 0);
    for (size_t i = 1; i < r->n_steps; i++)
        CHECK(r->step[i].iteration > r->step[i - 1].iteration);
    report_destroy(r);
}

static void test_no_run(void **state)
{
    char path[512];
    report_data *r = NULL;

    CHECK_ERROR(report_read(&r, small_path(path, *state, "absent")), THAW_E_MISSING, "is no run");
    check_write_file(small_path(path, *state, "events.jsonl"), "\n", 1);
    CHECK_ERROR(report_read(&r, *state), THAW_E_DATA, "has not begun");
    CHECK(r == NULL);
}

/* ----------------------------------------------------------------------------------------------
 * pieces */

static size_t decode_base64(unsigned char *out, const char *coded)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t n = 0;
    int held = 0;

    for (const char *p = coded; *p && *p != '='; p++) {
        const char *const at = strchr(digit, *p);

        CHECK(at);
        bits = bits << 6 | (uint32_t)(at - digit);
        held += 6;
        if (held >= 8)
            out[n++] = (unsigned char)(bits >> (held -= 8));
    }
    return n;
}

static uint32_t u32_at(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Chunks with right checksums, and rows that unpack to the pixels. */
static void test_png(void **state)
{
    uint8_t pixel[5 * 3 * 3];
    unsigned char file[1024], rows[5 * 10];
    uLongf n_rows = sizeof rows;
    size_t size, at = 8;
    char *coded = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof pixel; i++)
        pixel[i] = (uint8_t)(i * 37);
    CHECK_OK(png_base64(&coded, pixel, 5, 3, 3));
    size = decode_base64(file, coded);
    thaw__free(coded);
    CHECK(memcmp(file, "\x89PNG\r\n\x1a\n", 8) == 0);
    for (int k = 0; k < 3; k++) {
        const uint32_t n = u32_at(file + at);

        CHECK(at + 12 + n <= size);
        CHECK_INT(u32_at(file + at + 8 + n), (uint32_t)crc32(0, file + at + 4, n + 4));
        if (k == 0) {
            CHECK_INT(u32_at(file + at + 8), 3);
            CHECK_INT(u32_at(file + at + 12), 5);
        }
        if (k == 1)
            CHECK_INT(uncompress(rows, &n_rows, file + at + 8, n), Z_OK);
        at += 12 + n;
    }
    CHECK_INT(at, size);
    CHECK_INT(n_rows, sizeof rows);
    for (int y = 0; y < 5; y++)
        CHECK_BYTES(rows + 10 * y + 1, pixel + 9 * y, 9);
    CHECK_STATUS(png_base64(&coded, pixel, 1 << 20, 1, 1), THAW_E_LIMIT);
}

/* Nothing to draw, one value, values that are no numbers. */
static void test_charts_without_much(void **state)
{
    const double x[] = {1, 2, 3}, none[] = {NAN, INFINITY, NAN}, same[] = {2, 2, 2},
                 mixed[] = {1e-3, NAN, 10};
    chart_line line = {.name = "a<b", .x = x, .y = none, .n = 3, .dots = true};
    chart c = {.title = "t", .x_name = "step", .line = &line, .n_lines = 1, .x_most = 3};
    text out = TEXT_INIT;

    (void)state;
    chart_svg(&out, &c);
    chart_text(&out, &c, 40, 8);
    CHECK_INT(out.length, 0);
    line.y = same;
    chart_svg(&out, &c);
    chart_text(&out, &c, 40, 8);
    line.y = mixed;
    c.logarithmic = true;
    chart_svg(&out, &c);
    CHECK(!out.failed);
    CHECK_CONTAINS(out.data, "a&lt;b");
    CHECK(!strstr(out.data, "nan") && !strstr(out.data, "inf"));
    text_done(&out);
}

static size_t marks_in(const char *svg)
{
    size_t n = 0;

    for (const char *at = strstr(svg, "class=\"grid\""); at; at = strstr(at + 1, "class=\"grid\""))
        n++;
    return n;
}

/* Whatever numbers a history holds, a chart has a few marks, and points of its own range. */
static void test_charts_of_any_numbers(void **state)
{
    static const struct {
        double x[3], y[3];
    } row[] = {
        {{1, 2, 3}, {1, 1 + 2.3e-16, 1}},        {{1, 2, 3}, {0.7, 0.7 + 1e-9, 0.7}},
        {{1, 2, 3}, {1e308, -1e308, 1}},         {{1, 1e300, 3}, {1, 2, 3}},
        {{-1e300, NAN, 3}, {5e-324, 0, 1e-320}}, {{1, 2, 3}, {1e20, 1e20 + 16384, 1e20}},
    };
    const chart_band bands[] = {{"first", -5, 2}, {"far", 9e18, 1}, {"last", 2, 3}};

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(row); i++) {
        const chart_line line = {.name = "l", .x = row[i].x, .y = row[i].y, .n = 3};
        const chart c = {.title = "t",
                         .x_name = "step",
                         .line = &line,
                         .n_lines = 1,
                         .band = bands,
                         .n_bands = THAW_COUNT(bands),
                         .x_most = 3};
        text svg = TEXT_INIT, plain = TEXT_INIT;

        chart_svg(&svg, &c);
        chart_text(&plain, &c, 40, 8);
        CHECK_MSG(!svg.failed && marks_in(svg.data) >= 1 && marks_in(svg.data) < 20,
                  "row %zu: %zu marks", i, svg.failed ? 0 : marks_in(svg.data));
        CHECK(!strstr(svg.data, "nan") && !strstr(svg.data, "inf"));
        CHECK_MSG(!plain.failed && plain.length < 4000, "row %zu: %zu bytes", i, plain.length);
        CHECK_CONTAINS(plain.data, "last");
        CHECK(!strstr(plain.data, "far"));
        text_done(&svg);
        text_done(&plain);
    }
}

static void test_marks_are_round(void **state)
{
    const chart_axis a = chart_marks(0.13, 0.97, 5), b = chart_marks(0, 135, 8);

    (void)state;
    CHECK_NEAR(a.step, 0.2, 1e-12, 0);
    CHECK_NEAR(a.least, 0, 0, 1e-12);
    CHECK_NEAR(a.most, 1, 1e-12, 0);
    CHECK_NEAR(b.step, 20, 1e-12, 0);
}

/* ----------------------------------------------------------------------------------------------
 * a whole run */

/* CRC-32C by long division, another way than the writer's. */
static uint32_t slow_crc(const unsigned char *p, size_t n)
{
    uint32_t crc = 0xFFFFFFFF;

    for (size_t i = 0; i < 8 * n; i++) {
        const uint32_t bit = (p[i / 8] >> (i % 8)) & 1U;
        const bool out = (crc & 1U) != bit;

        crc >>= 1;
        if (out)
            crc ^= 0x82F63B78;
    }
    return ~crc;
}

static void check_record_sum(const unsigned char *data, size_t n, const unsigned char *stored)
{
    const uint32_t crc = slow_crc(data, n), masked = (crc >> 15 | crc << 17) + 0xA282EAD8;

    CHECK_INT((uint32_t)stored[3] << 24 | (uint32_t)stored[2] << 16 | (uint32_t)stored[1] << 8 |
                  stored[0],
              masked);
}

static int count_records(const unsigned char *p, size_t size)
{
    int n = 0;

    for (size_t at = 0; at < size; n++) {
        const size_t length = p[at] | (size_t)p[at + 1] << 8;

        CHECK(at + 16 + length <= size);
        check_record_sum(p + at, 8, p + at + 8);
        check_record_sum(p + at + 12, length, p + at + 12 + length);
        at += 16 + length;
    }
    return n;
}

static void train_run(const char *folder, char run[512])
{
    const thaw_run_options options = {.run = small_path(run, folder, "run"), .threads = 1};
    thaw_recipe *recipe = small_recipe(RECIPE, folder);

    if (access(run, F_OK) != 0)
        CHECK_OK(thaw_train(recipe, &options));
    thaw_recipe_destroy(recipe);
}

static void test_page(void **state)
{
    char run[512], path[512], *said = NULL, *page;
    unsigned char *events;
    size_t n;

    train_run(*state, run);
    CHECK_OK(thaw_report(&said, run, NULL, false));
    CHECK_CONTAINS(said, "report.html");
    thaw_text_free(said);
    page = check_read_file(NULL, small_path(path, run, "report.html"));
    CHECK_CONTAINS(page, "&lt;head&gt; &amp; &quot;co&quot;");
    CHECK(!strstr(page, "<head> & \"co\"") && !strstr(page, "<script") && !strstr(page, "http:") &&
          !strstr(page, "https:"));
    CHECK_CONTAINS(page, "Learning rate of each group");
    CHECK_CONTAINS(page, "Who trained when");
    CHECK_CONTAINS(page, "validation images are right");
    CHECK_CONTAINS(page, "data:image/png;base64,");
    free(page);
    events = (unsigned char *)check_read_file(
        &n, small_path(path, run, "tensorboard/events.out.tfevents.0000000000.thaw"));
    /* the version; of each step seven scalars, fewer where there is no number; two of each
     * evaluation */
    CHECK(count_records(events, n) >= 1 + 10 * 5 + 3 * 2);
    free(events);
}

static void test_terminal(void **state)
{
    char run[512], *said = NULL;

    train_run(*state, run);
    CHECK_OK(thaw_report(&said, run, NULL, true));
    CHECK_CONTAINS(said, "2 all");
    CHECK_CONTAINS(said, "●");
    CHECK_CONTAINS(said, "of 7 right");
    thaw_text_free(said);
}

/* Long names and small numbers push a table's columns on, but never together. */
static void test_wide_cells(void **state)
{
    report_data *r = read_lines_of(
        *state, "{\"event\": \"phase\", \"phase\": 1, \"phase_name\": \"a name as long as this\"}\n"
                "{\"event\": \"phase_end\", \"phase\": 1, \"iteration\": 20, "
                "\"loss\": 1.19209e-07, \"metric\": 1, \"seconds\": 3}\n"
                "{\"event\": \"phase\", \"phase\": 2, \"phase_name\": \"b\"}\n");
    text said = TEXT_INIT;

    CHECK_OK(report_text(&said, r));
    CHECK_CONTAINS(said.data, "as long as this 0 (0.0%)");
    CHECK_CONTAINS(said.data, " 1.192e-07 ");
    CHECK_CONTAINS(said.data, " - ");
    text_done(&said);
    report_destroy(r);
}

/* Data that have moved: the report says so and has the rest. */
static void test_data_gone(void **state)
{
    char run[512], from[512], to[512], *said = NULL;

    train_run(*state, run);
    CHECK_INT(rename(small_path(from, *state, "valid-images-idx3-ubyte"),
                     small_path(to, *state, "elsewhere")),
              0);
    CHECK_OK(thaw_report(&said, run, NULL, false));
    CHECK_CONTAINS(said, "not judged: ");
    CHECK_CONTAINS(said, "valid-images-idx3-ubyte");
    thaw_text_free(said);
    CHECK_INT(rename(to, from), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_run),
        cmocka_unit_test(test_broken_lines),
        cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_png),
        cmocka_unit_test(test_charts_without_much),
        cmocka_unit_test(test_charts_of_any_numbers),
        cmocka_unit_test(test_marks_are_round),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_wide_cells),
        cmocka_unit_test(test_data_gone),
    };

    return cmocka_run_group_tests(tests, small_setup, small_teardown);
}
