#ifndef MODEL_DOCS_H
#define MODEL_DOCS_H

#include "base/buf.h"
#include "model/model.h"

/* A page of Markdown: the graph, and each selected model with its text, columns and tests. */
void model_put_docs(struct duct_buf *to, const struct model_project *project, const bool *selected);

#endif
