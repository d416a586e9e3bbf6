/*
 * provenance.c - by what, where and from what a run was made: versions, kernels, host, command
 * line, and the state of the working folder in git, read from its files.
 *
 * A resume that runs in the same way adds nothing; another host, version or command line adds a
 * row. Nothing is read back for a decision: this is for people who ask later.
 */
#include "train/train.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define MOST_ARGUMENTS ((size_t)64 << 10) /* bytes of the command line */
#define MOST_REF       ((size_t)4 << 20)  /* bytes of a file of git */
#define PATH_MOST      4096

/* ----------------------------------------------------------------------------------------------
 * git */

/* First line of folder/name; false when there is none. */
static bool read_line(char out[PATH_MOST], const char *folder, const char *name)
{
    char *path = os_path(folder, name), *data = NULL;
    size_t size = 0, n;
    bool found = path && os_kind_of(path) == OS_FILE &&
                 os_read_file(&data, &size, path, MOST_REF) == THAW_OK;

    n = found ? strcspn(data, "\r\n") : 0;
    found = n > 0 && n < PATH_MOST;
    if (found) {
        memcpy(out, data, n);
        out[n] = '\0';
    }
    thaw__free(data);
    thaw__free(path);
    return found;
}

static bool is_commit(const char *s)
{
    const size_t n = strspn(s, "0123456789abcdef");

    return (n == 40 || n == 64) && s[n] == '\0';
}

/* A ref among the packed ones: "<commit> <ref>" a line. */
static bool find_packed(char out[PATH_MOST], const char *folder, const char *ref)
{
    char *path = os_path(folder, "packed-refs"), *data = NULL, *rest = NULL;
    size_t size = 0;
    bool found = false;

    if (path && os_kind_of(path) == OS_FILE &&
        os_read_file(&data, &size, path, MOST_REF) == THAW_OK)
        for (char *line = strtok_r(data, "\n", &rest); line && !found;
             line = strtok_r(NULL, "\n", &rest)) {
            char *space = strchr(line, ' ');

            if (!space || strcmp(space + 1, ref) != 0)
                continue;
            *space = '\0';
            found = is_commit(line);
            if (found)
                (void)snprintf(out, PATH_MOST, "%s", line);
        }
    thaw__free(data);
    thaw__free(path);
    return found;
}

/* The folder of git's own files for a working folder: .git, or where the file .git points. */
static bool find_git(char out[PATH_MOST], const char *folder)
{
    char line[PATH_MOST];
    char *git = os_path(folder, ".git");
    const os_kind kind = git ? os_kind_of(git) : OS_ABSENT;
    bool found = kind == OS_FOLDER && snprintf(out, PATH_MOST, "%s", git) < PATH_MOST;

    thaw__free(git);
    if (kind != OS_FILE || !read_line(line, folder, ".git") || strncmp(line, "gitdir: ", 8) != 0)
        return found;
    return line[8] == '/' ? snprintf(out, PATH_MOST, "%s", line + 8) < PATH_MOST
                          : snprintf(out, PATH_MOST, "%s/%s", folder, line + 8) < PATH_MOST;
}

/* Refs of a linked working folder lie with the main one's. */
static void find_common(char out[PATH_MOST], const char *git)
{
    char line[PATH_MOST];

    if (!read_line(line, git, "commondir") ||
        snprintf(out, PATH_MOST, "%s%s%s", line[0] == '/' ? "" : git, line[0] == '/' ? "" : "/",
                 line) >= PATH_MOST)
        (void)snprintf(out, PATH_MOST, "%s", git);
}

static void print_git(text *out, char *folder)
{
    char git[PATH_MOST], common[PATH_MOST], at[PATH_MOST], commit[PATH_MOST] = "";
    const char *ref = "";

    while (*folder && !find_git(git, folder))
        *strrchr(folder, '/') = '\0';
    if (!*folder || !read_line(at, git, "HEAD")) {
        text_add(out, "null");
        return;
    }
    find_common(common, git);
    if (strncmp(at, "ref: ", 5) == 0) {
        ref = at + 5;
        if (!strstr(ref, "..") && !read_line(commit, git, ref) && !read_line(commit, common, ref))
            (void)find_packed(commit, common, ref);
    } else {
        (void)snprintf(commit, sizeof commit, "%s", at);
    }
    text_add(out, "{\"folder\": ");
    text_add_json_string(out, folder);
    text_addf(out, ", \"commit\": \"%s\", \"ref\": ", is_commit(commit) ? commit : "");
    text_add_json_string(out, ref);
    text_add(out, "}");
}

/* ----------------------------------------------------------------------------------------------
 * the rest */

static void print_arguments(text *out)
{
    char *data = NULL;
    size_t size = 0;

    text_add(out, "[");
    if (os_read_file(&data, &size, "/proc/self/cmdline", MOST_ARGUMENTS) == THAW_OK)
        for (size_t at = 0; at < size; at += strlen(data + at) + 1) {
            text_add(out, at > 0 ? ", " : "");
            text_add_json_string(out, data + at);
        }
    thaw__free(data);
    text_add(out, "]");
}

static void add_string(text *out, const char *name, const char *value)
{
    text_addf(out, ", \"%s\": ", name);
    text_add_json_string(out, value);
}

static void print_setup(text *out, const trainer *t)
{
    struct utsname system = {0};
    char folder[PATH_MOST];

    (void)uname(&system);
    if (!getcwd(folder, sizeof folder) || folder[0] != '/')
        folder[0] = '\0';
    text_addf(out, "{\"thaw\": \"%s\"", thaw_version());
    add_string(out, "kernels", thaw_kernels());
    add_string(out, "executor", t->job->recipe->executor->name);
    text_addf(out, ", \"threads\": %d", t->job->threads);
    add_string(out, "host", system.nodename);
    add_string(out, "system", system.sysname);
    add_string(out, "release", system.release);
    add_string(out, "machine", system.machine);
    text_add(out, ", \"argv\": ");
    print_arguments(out);
    add_string(out, "folder", folder);
    text_add(out, ", \"git\": ");
    print_git(out, folder);
}

/* Where the last row begins. */
static const char *last_row(const text *rows)
{
    const char *at = rows->data ? strrchr(rows->data, '\n') : NULL;

    return at ? at + 1 : rows->data ? rows->data : "";
}

void provenance_add(trainer *t)
{
    const time_t now = (time_t)os()->wall();
    struct tm utc = {0};
    char when[32];
    text row = TEXT_INIT;

    print_setup(&row, t);
    if (!row.failed && strncmp(last_row(&t->provenance), row.data, row.length) != 0) {
        (void)gmtime_r(&now, &utc);
        (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
        text_addf(&row, ", \"from\": %lld, \"begun\": \"%s\"}", (long long)t->state.iteration,
                  when);
        if (!row.failed)
            rows_add(&t->provenance, row.data);
    }
    text_done(&row);
}
