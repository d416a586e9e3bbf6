/*
 * picture_files.h - folders of pictures for tests: made of the recorded ones, under other names.
 */
#ifndef THAW_TESTS_PICTURE_FILES_H
#define THAW_TESTS_PICTURE_FILES_H

#include "pictures.h"

#include <sys/stat.h>

static inline const char *below(char path[512], const char *folder, const char *name)
{
    CHECK(snprintf(path, 512, "%s/%s", folder, name) < 512);
    return path;
}

static inline void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    CHECK_MSG(f && fwrite(data, 1, n, f) == n && fclose(f) == 0, "cannot write '%s'", path);
}

/* The first `share` hundredths of a recorded file, as folder/name, whose own folder is made. */
static inline void put_part(const char *folder, const char *name, const char *recorded_name,
                            size_t share)
{
    char path[512], parent[512];
    file_bytes f = load_file(recorded_name);

    below(path, folder, name);
    for (char *p = path + strlen(folder) + 1; (p = strchr(p, '/')) != NULL; p++) {
        memcpy(parent, path, (size_t)(p - path));
        parent[p - path] = '\0';
        (void)mkdir(parent, 0777);
    }
    write_file(path, f.data, f.size * share / 100);
    thaw__free(f.data);
}

static inline void put(const char *folder, const char *name, const char *recorded_name)
{
    put_part(folder, name, recorded_name, 100);
}

/* Ten pictures in two classes, one of them in a folder below. */
static inline void put_ten(const char *folder)
{
    static const char *const from[] = {"rgb.png", "colour.jpg", "grey.jpg", "alpha.png",
                                       "progressive.jpg"};
    char name[64];

    for (int i = 0; i < 10; i++) {
        (void)snprintf(name, sizeof name, "%s/%s%d%s", i < 5 ? "cat" : "dog",
                       i == 7 ? "below/" : "", i, strrchr(from[i % 5], '.'));
        put(folder, name, from[i % 5]);
    }
}

#endif
