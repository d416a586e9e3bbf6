/*
 * replay.c - runs a fuzz target over stored inputs: every file named on the command line, and every
 * file in each folder named there. Linked with a target in place of libFuzzer, so that the corpus
 * is part of the ordinary tests with any compiler.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int n_runs;

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    size_t size = 0, room = 0;

    if (!f) {
        fprintf(stderr, "%s: cannot be opened\n", path);
        return 1;
    }
    do {
        room = room ? 2 * room : 4096;
        data = realloc(data, room);
        if (!data)
            abort();
        size += fread(data + size, 1, room - size, f);
    } while (size == room);
    fclose(f);
    /* an exact block, so that the sanitizer sees a read behind the end */
    data = realloc(data, size ? size : 1);
    if (!data)
        abort();
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    n_runs++;
    return 0;
}

static int replay(const char *path)
{
    char name[4096];
    struct stat st;
    const struct dirent *entry;
    DIR *dir;
    int failed = 0;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return replay_file(path);
    dir = opendir(path);
    if (!dir)
        return 1;
    while ((entry = readdir(dir)))
        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            failed |= replay_file(name);
        }
    closedir(dir);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    printf("%d inputs\n", n_runs);
    return failed || n_runs == 0;
}
