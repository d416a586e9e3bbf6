/*
 * json_check.c - reads lines from standard input, each of which must be one JSON object without
 * duplicate keys, and prints of each the keys named on the command line, tabs between them. For the
 * scripts that test what the program writes; a strict reader that is not our own.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void print_value(const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;

    fputs(text ? text : "-", stdout);
    free(text);
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    long number = 0;

    while ((n = getline(&line, &room, stdin)) > 0) {
        json_error_t error;
        json_t *object = json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, &error);

        number++;
        if (!json_is_object(object) || line[n - 1] != '\n') {
            fprintf(stderr, "line %ld: %s\n%s\n", number,
                    object ? "no object on a line of its own" : error.text, line);
            return 1;
        }
        for (int i = 1; i < argc; i++) {
            if (i > 1)
                putchar('\t');
            print_value(json_object_get(object, argv[i]));
        }
        if (argc > 1)
            putchar('\n');
        json_decref(object);
    }
    free(line);
    return number > 0 ? 0 : 1;
}
