/*
 * report_tensorboard.c - a run's scalars as a TensorBoard event file: records of length, checksum,
 * protocol buffer, checksum (TFRecord; CRC-32C, masked).
 */
#include "train/train.h"

#include "train/report.h"

#include <math.h>
#include <string.h>

/* Castagnoli's polynomial, reversed (RFC 3720, appendix B.4). */
static uint32_t crc32c(const void *data, size_t n)
{
    const unsigned char *const p = data;
    uint32_t crc = ~UINT32_C(0);

    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (UINT32_C(0x82F63B78) & (0U - (crc & 1U)));
    }
    return ~crc;
}

static uint32_t masked(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + UINT32_C(0xA282EAD8);
}

static void put_fixed(text *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        const char c = (char)(unsigned char)(v >> (8 * i));

        text_add_n(out, &c, 1);
    }
}

static void put_varint(text *out, uint64_t v)
{
    do {
        const char c = (char)(unsigned char)((v & 0x7F) | (v > 0x7F ? 0x80 : 0));

        text_add_n(out, &c, 1);
        v >>= 7;
    } while (v > 0);
}

/* A field's tag: number and wire type (0 varint, 1 eight bytes, 2 counted, 5 four bytes). */
static void put_tag(text *out, int field, int wire)
{
    put_varint(out, (uint64_t)(field << 3 | wire));
}

static void put_counted(text *out, int field, const char *data, size_t n)
{
    put_tag(out, field, 2);
    put_varint(out, n);
    text_add_n(out, data, n);
}

static void put_double(text *out, int field, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    put_tag(out, field, 1);
    put_fixed(out, bits, 8);
}

static void put_record(text *out, const text *event)
{
    text length = TEXT_INIT;

    put_fixed(&length, event->length, 8);
    if (length.failed || event->failed) {
        out->failed = true;
    } else {
        text_add_n(out, length.data, 8);
        put_fixed(out, masked(crc32c(length.data, 8)), 4);
        text_add_n(out, event->data, event->length);
        put_fixed(out, masked(crc32c(event->data, event->length)), 4);
    }
    text_done(&length);
}

/* Event { wall_time = 1, step = 2, file_version = 3, summary = 5 { value = 1 { tag = 1,
 * simple_value = 2 } } } */
static void put_version(text *out, double wall)
{
    static const char version[] = "brain.Event:2";
    text event = TEXT_INIT;

    put_double(&event, 1, wall);
    put_counted(&event, 3, version, sizeof version - 1);
    put_record(out, &event);
    text_done(&event);
}

static void put_scalar(text *out, double wall, double step, const char *tag, double v)
{
    const float value = (float)v;
    text event = TEXT_INIT, summary = TEXT_INIT, entry = TEXT_INIT;
    uint32_t bits;

    if (!isfinite(v))
        return;
    memcpy(&bits, &value, sizeof bits);
    put_counted(&entry, 1, tag, strlen(tag));
    put_tag(&entry, 2, 5);
    put_fixed(&entry, bits, 4);
    put_counted(&summary, 1, entry.data ? entry.data : "", entry.length);
    put_double(&event, 1, wall);
    put_tag(&event, 2, 0);
    put_varint(&event, (uint64_t)step);
    put_counted(&event, 5, summary.data ? summary.data : "", summary.length);
    event.failed |= summary.failed || entry.failed;
    put_record(out, &event);
    text_done(&event);
    text_done(&summary);
    text_done(&entry);
}

thaw_status report_tensorboard(text *out, const report_data *r)
{
    const double wall = os()->wall();
    text tag = TEXT_INIT;

    put_version(out, wall);
    for (size_t i = 0; i < r->n_steps; i++) {
        const report_step *const s = &r->step[i];
        const struct {
            const char *tag;
            double value;
        } scalar[] = {{"train/loss", s->loss},
                      {"train/grad_norm", s->grad_norm},
                      {"train/lr", s->lr},
                      {"train/lr_least", s->lr_least},
                      {"train/lr_most", s->lr_most},
                      {"train/images_per_second", s->rate},
                      {"train/phase", (double)s->phase + 1}};

        for (size_t k = 0; k < THAW_COUNT(scalar); k++)
            put_scalar(out, wall, s->iteration, scalar[k].tag, scalar[k].value);
    }
    for (size_t i = 0; i < r->n_evals && !tag.failed; i++) {
        const report_eval *const e = &r->eval[i];

        tag.length = 0;
        text_addf(&tag, "%s/loss", e->split);
        put_scalar(out, wall, e->iteration, tag.data ? tag.data : "", e->loss);
        tag.length = 0;
        text_addf(&tag, "%s/%s", e->split, e->metric_name);
        put_scalar(out, wall, e->iteration, tag.data ? tag.data : "", e->metric);
    }
    out->failed |= tag.failed;
    text_done(&tag);
    return out->failed ? thaw_fail(THAW_E_NOMEM, "out of memory for TensorBoard's events")
                       : THAW_OK;
}
