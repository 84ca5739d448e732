"""report.html: a run on one page, self-contained, for a phone and a desk; all text in it is escaped."""

import base64
from html import escape
from typing import NamedTuple

import numpy as np

from reports.evaluation import class_accuracies, most_confused_with
from runtime.files import printable
from runtime.flags import flag_text

STYLE = '''
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 60rem; margin: auto; padding: 0 1rem 3rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: .875rem }
th, td { padding: .15rem .6rem .15rem 0; text-align: left; vertical-align: top }
td { overflow-wrap: break-word; max-width: 20rem }
tr:nth-child(even) td { background: #f6f6f6 }
.number { text-align: right; font-variant-numeric: tabular-nums }
meter { width: 4rem; vertical-align: middle }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .75rem }
img { max-width: 100% }
.box { overflow: auto; max-height: 60rem }
.wide { overflow-x: auto }
.wide img { max-width: none }
.sheet { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
figure { margin: 0; font-size: .8rem; overflow-wrap: anywhere }
figure img { width: 100% }
.warning { background: #fff3cd; padding: .5rem .75rem; border-left: 4px solid #e0a800 }
.key { font-size: 1.1rem }
'''
# Nothing is loaded from elsewhere, whatever a name on the page says.
HEAD = '''<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
'''


class Record(NamedTuple):
    """What a run leaves to be shown."""

    run_dir: str
    command: str
    settings: dict
    layers: list       # lines of the layer table
    class_names: list
    counts: tuple      # images of each class in training and in validation, two int arrays [n]
    guessing: float    # validation accuracy of always guessing the largest class
    rows: list         # the metrics of each epoch, as in metrics.csv
    best: dict         # of these, that of the best epoch
    matrix: np.ndarray  # its confusion matrix; None with too many classes
    troubles: list     # sentences
    pictures: dict     # {name: file content}: curves, confusion_matrix, first_batch, conv1_filters, if there is one
    mistakes: list     # (JPEG file content, true class, predicted class, its probability), most confident first


def make_page(record):
    """Return the text of report.html."""
    best, layers = record.best, '\n'.join(record.layers)
    key = (f'Best epoch {best["epoch"]} of {record.rows[-1]["epoch"]}: validation accuracy '
           f'<b>{best["val_accuracy"]:.4f}</b>, loss {best["val_loss"]:.4f}. '
           f'Always guessing the largest class: {record.guessing:.4f}.')
    parts = [f'<h1>{text(record.run_dir)}</h1><p class="key">{key}</p>']
    parts += [f'<p class="warning">{text(sentence)}</p>' for sentence in record.troubles]
    parts += [section('Loss and accuracy', picture(record, 'curves')),
              section('Most confident mistakes', mistakes_sheet(record.mistakes)),
              section('Classes', class_table(record)),
              section('Confusion matrix of the best epoch', picture(record, 'confusion_matrix', 'wide')),
              section('Epochs', epoch_table(record.rows)),
              section('The first batch as the network sees it', picture(record, 'first_batch')),
              section('Filters of conv1', picture(record, 'conv1_filters')),
              section('Layers', f'<pre>{text(layers)}</pre>'),
              section('Settings', table(('setting', 'value'), [(name, flag_text(value)) for name, value
                                                               in record.settings.items()])),
              section('Command', f'<pre>{text(record.command)}</pre>')]
    return (f'{HEAD}<title>{text(record.run_dir)}</title><style>{STYLE}</style></head>\n<body>\n' + '\n'.join(parts)
            + '\n</body></html>\n')


def text(value):
    """Return text from anywhere, fit for the page: printable letters, none of them markup."""
    return '\n'.join(escape(printable(line, 2000)) for line in str(value).split('\n'))


def section(title, content):
    """Return a part of the page, or nothing if it has no content."""
    return f'<h2>{title}</h2>\n{content}' if content else ''


def data_address(content):
    """Return a PNG or JPEG file as an address that holds it."""
    kind = 'png' if content.startswith(b'\x89PNG') else 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'


def picture(record, name, kind=''):
    """Return a picture as HTML, or nothing if there is none; kind 'wide' is not shrunk to the window, it scrolls."""
    if name not in record.pictures:
        return ''
    return f'<div class="{kind}"><img alt="{name}" src="{data_address(record.pictures[name])}"></div>'


def mistakes_sheet(mistakes):
    """Return the mistakes as HTML, each over its caption."""
    figures = [f'<figure><img alt="" src="{data_address(content)}"><figcaption>is <b>{text(name)}</b><br>taken for '
               f'<b>{text(predicted)}</b> {probability:.2f}</figcaption></figure>'
               for content, name, predicted, probability in mistakes]
    return f'<div class="sheet">{"".join(figures)}</div>' if figures else '<p>None.</p>'


def table(header, rows):
    """Return a table as HTML, which scrolls by itself; numbers stand right, strings are escaped, Markup is not."""
    def cell(value, tag):
        content = value if isinstance(value, Markup) else text(value)
        return f'<{tag}{"" if isinstance(value, str) else " class=number"}>{content}</{tag}>'
    numbers = [not isinstance(value, str) for value in rows[0]]
    head = ''.join(f'<th{" class=number" if number else ""}>{text(name)}</th>' for name, number in zip(header, numbers))
    body = ''.join('<tr>' + ''.join(cell(value, 'td') for value in row) + '</tr>\n' for row in rows)
    return f'<div class="box"><table><tr>{head}</tr>\n{body}</table></div>'


class Markup(str):
    """Text that is HTML already."""


class Number(float):
    """A number with the digits that the page shows."""

    def __str__(self):
        return f'{float(self):.4g}'


def class_table(record):
    """Return the classes as HTML: how many images, what share is recognised, what the others are taken for."""
    accuracies = class_accuracies(record.matrix) if record.matrix is not None else [np.nan] * len(record.class_names)
    rows = []
    for number, (name, *counts) in enumerate(zip(record.class_names, *(part.tolist() for part in record.counts))):
        share, mistaken = '', ''
        if not np.isnan(accuracies[number]):
            share = Markup(f'{accuracies[number]:.3f} <meter value="{accuracies[number]:.3f}"></meter>')
            other, times = most_confused_with(record.matrix, number)
            mistaken = f'{record.class_names[other]} ({times})' if times else ''
        rows.append((name, share, mistaken, *counts))
    return table(('class', 'accuracy', 'most often taken for', 'training', 'validation'), rows)


def epoch_table(rows):
    """Return the metrics as HTML."""
    return table([name.replace('_', ' ') for name in rows[0]],
                 [[value if name == 'epoch' else Number(value) for name, value in row.items()] for row in rows])
