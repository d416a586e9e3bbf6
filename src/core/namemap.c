/*
 * namemap.c - names to numbers, and the code points of names.
 *
 * Open addressing over FNV-1a. Names are borrowed; the table only points at them.
 */
#include "core/core.h"

#include <string.h>

static size_t slot_of(const name_map *map, const char *name)
{
    size_t i = (size_t)hash_fnv1a(name) & (map->capacity - 1);

    while (map->slot[i].name && strcmp(map->slot[i].name, name) != 0)
        i = (i + 1) & (map->capacity - 1);
    return i;
}

static thaw_status map_grow(name_map *map)
{
    name_map bigger = {.capacity = map->capacity ? map->capacity * 2 : 16, .n = map->n};

    bigger.slot = thaw__new(bigger.capacity, sizeof(*bigger.slot));
    if (!bigger.slot)
        return thaw_fail(THAW_E_NOMEM, "out of memory for %zu names", map->n);
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slot[i].name)
            bigger.slot[slot_of(&bigger, map->slot[i].name)] = map->slot[i];
    thaw__free(map->slot);
    *map = bigger;
    return THAW_OK;
}

thaw_status name_map_put(name_map *map, const char *name, int value)
{
    if (map->n * 4 >= map->capacity * 3)
        THAW_CHECK(map_grow(map));
    const size_t i = slot_of(map, name);

    map->n += !map->slot[i].name;
    map->slot[i].name = name;
    map->slot[i].value = value;
    return THAW_OK;
}

int name_map_get(const name_map *map, const char *name)
{
    if (!map->capacity)
        return -1;
    const size_t i = slot_of(map, name);

    return map->slot[i].name ? map->slot[i].value : -1;
}

void name_map_done(name_map *map)
{
    thaw__free(map->slot);
    *map = (name_map){0};
}

uint32_t utf8_next(const char **s)
{
    const unsigned char *p = (const unsigned char *)*s;
    const int more = p[0] >= 0xF0 ? 3 : p[0] >= 0xE0 ? 2 : p[0] >= 0xC0 ? 1 : 0;
    static const uint8_t mask[] = {0x7F, 0x1F, 0x0F, 0x07};
    uint32_t c = p[0] & mask[more];

    if (!p[0])
        return 0;
    for (int i = 1; i <= more; i++)
        c = c << 6 | (p[i] & 0x3F);
    *s += more + 1;
    return c;
}

void utf8_put(text *t, uint32_t c)
{
    char b[4];
    size_t n = 0;

    if (c < 0x80) {
        b[n++] = (char)c;
    } else {
        static const uint8_t lead[] = {0, 0xC0, 0xE0, 0xF0};
        const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;

        b[n++] = (char)(lead[more] | c >> (6 * more));
        for (int i = more - 1; i >= 0; i--)
            b[n++] = (char)(0x80 | (c >> (6 * i) & 0x3F));
    }
    text_add_n(t, b, n);
}

/* No overlong forms, surrogates, or anything past U+10FFFF (Unicode 15, table 3-7). */
bool utf8_valid(const char *s)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        if (*p >= 0x80 && (*p < 0xC2 || *p > 0xF4))
            return false;
        const int more = *p >= 0xF0 ? 3 : *p >= 0xE0 ? 2 : *p >= 0xC0 ? 1 : 0;
        const char *next = (const char *)p;

        for (int i = 1; i <= more; i++)
            if ((p[i] & 0xC0) != 0x80)
                return false;
        const uint32_t c = utf8_next(&next);

        if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
            return false;
        p += more + 1;
    }
    return true;
}
