"""VOID inside Nuke. The first five import nuke; every other module is plain Python 3.9 and runs anywhere.

    host      what the buttons do: threads, messages, states              (main thread, but for its worker's callbacks)
    bake      renders inputs to files                                     (main thread)
    show      puts a result onto a node                                   (main thread)
    update    puts a node of today in the place of an older one           (main thread)
    guard     what is checked before a render                             (main thread)
    nodes     what is read off nodes
    tree      the nodes above a node
    colour    which colour space that is
    request   from what a node looks like to what is sent, or to a list of everything that is wrong
    results   the folder beside the script: versions, the record of a job, what is finished
    states    which state a node is in, and how it is said
    live      the body of the thread, and how it speaks to Nuke without touching it
    work      what the thread does: upload, wait, download over the wire client     (the only place with a socket)
    find_wire where the wire client is imported from

Importing any of them opens no socket and starts no thread.
"""

from void_nuke import find_wire

find_wire.prepare()
