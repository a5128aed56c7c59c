/* Runs a shield that was compiled for this processor elsewhere: `host SHIELD.cwasm TEXT` masks TEXT and prints it.
 *
 * The engine is libwasmtime from the `wasmtime` package for Python, of our own major version, which brings no headers:
 * what is used of its C API is declared here. The settings are those of `base_config` in
 * crates/obsidian-sandbox/src/engine.rs; with others the code would be refused. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { size_t size; char *data; } name_t;
typedef struct value value_t;
typedef struct { size_t size; value_t *data; } list_t;
typedef struct entry entry_t;
struct value {
    uint8_t kind;
    union {
        uint8_t u8;
        name_t string;
        list_t list;
        struct { size_t size; entry_t *data; } record;
        struct { bool is_ok; value_t *val; } result;
        struct { name_t discriminant; value_t *val; } widest;
    } of;
};
struct entry { name_t name; value_t val; };
enum { U8 = 2, STRING = 12, LIST = 13, RECORD = 14, RESULT = 19 };
typedef struct { uint64_t store; uint32_t index; } instance_t;
typedef struct { struct { uint64_t store; uint32_t index; } of; uint32_t index; } function_t;

void *wasm_config_new(void);
void *wasm_engine_new_with_config(void *config);
void wasmtime_config_epoch_interruption_set(void *config, bool on);
void wasmtime_config_memory_reservation_set(void *config, uint64_t bytes);
void wasmtime_config_memory_may_move_set(void *config, bool on);
void wasmtime_config_memory_init_cow_set(void *config, bool on);
void wasmtime_config_wasm_component_model_set(void *config, bool on);
void wasmtime_config_concurrency_support_set(void *config, bool on);
void *wasmtime_component_deserialize_file(void *engine, const char *path, void **component);
void *wasmtime_component_linker_new(void *engine);
void *wasmtime_component_linker_add_wasip2(void *linker);
void *wasmtime_component_linker_instantiate(void *linker, void *context, void *component, instance_t *instance);
void *wasmtime_component_instance_get_export_index(const instance_t *, void *context, const void *in, const char *name,
                                                   size_t length);
bool wasmtime_component_instance_get_func(const instance_t *, void *context, const void *index, function_t *);
void *wasmtime_component_func_call(const function_t *, void *context, const value_t *arguments, size_t count,
                                   value_t *results, size_t results_count);
void *wasmtime_store_new(void *engine, void *data, void (*finalizer)(void *));
void *wasmtime_store_context(void *store);
void wasmtime_context_set_epoch_deadline(void *context, uint64_t ticks);
void *wasmtime_context_set_wasi(void *context, void *wasi);
void *wasi_config_new(void);
void wasmtime_error_message(void *error, name_t *message);

static void check(const char *what, void *error) {
    name_t message;
    if (!error) return;
    wasmtime_error_message(error, &message);
    fprintf(stderr, "%s: %.*s\n", what, (int)message.size, message.data);
    exit(1);
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: host SHIELD.cwasm TEXT\n");
        return 2;
    }
    void *config = wasm_config_new();
    wasmtime_config_wasm_component_model_set(config, true);
    wasmtime_config_concurrency_support_set(config, true);
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_memory_reservation_set(config, 4ull << 30);
    wasmtime_config_memory_may_move_set(config, false);
    wasmtime_config_memory_init_cow_set(config, true);
    void *engine = wasm_engine_new_with_config(config);
    void *component = NULL;
    check("load", wasmtime_component_deserialize_file(engine, arguments[1], &component));

    void *store = wasmtime_store_new(engine, NULL, NULL);
    void *context = wasmtime_store_context(store);
    /* Nothing is granted. */
    check("wasi", wasmtime_context_set_wasi(context, wasi_config_new()));
    wasmtime_context_set_epoch_deadline(context, 1000);
    void *linker = wasmtime_component_linker_new(engine);
    check("link", wasmtime_component_linker_add_wasip2(linker));
    instance_t instance;
    check("instantiate", wasmtime_component_linker_instantiate(linker, context, component, &instance));

    const char *interface = "obsidian:edge/masking@0.1.0";
    void *masking =
        wasmtime_component_instance_get_export_index(&instance, context, NULL, interface, strlen(interface));
    void *mask = wasmtime_component_instance_get_export_index(&instance, context, masking, "mask", 4);
    function_t function;
    if (!mask || !wasmtime_component_instance_get_func(&instance, context, mask, &function)) {
        fprintf(stderr, "it exports no %s#mask\n", interface);
        return 1;
    }
    value_t text = {.kind = STRING, .of.string = {strlen(arguments[2]), arguments[2]}};
    value_t key[32];
    for (int index = 0; index < 32; index++) key[index] = (value_t){.kind = U8, .of.u8 = (uint8_t)index};
    value_t given[2] = {{.kind = LIST, .of.list = {1, &text}}, {.kind = LIST, .of.list = {32, key}}};
    value_t result = {0};
    check("mask", wasmtime_component_func_call(&function, context, given, 2, &result, 1));
    if (result.kind != RESULT || !result.of.result.is_ok || result.of.result.val->kind != RECORD) {
        fprintf(stderr, "mask refused\n");
        return 1;
    }
    value_t *masked = result.of.result.val;
    for (size_t index = 0; index < masked->of.record.size; index++) {
        entry_t *field = &masked->of.record.data[index];
        if (field->name.size == 6 && !memcmp(field->name.data, "fields", 6)) {
            name_t first = field->val.of.list.data[0].of.string;
            printf("%.*s\n", (int)first.size, first.data);
            return 0;
        }
    }
    fprintf(stderr, "mask returned no fields\n");
    return 1;
}
